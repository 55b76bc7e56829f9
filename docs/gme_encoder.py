"""GME (Alibaba-NLP/gme-Qwen2-VL-2B-Instruct) as an encoder of one's own; docs/encoders.md goes through it step by step.

    export PYTHONPATH=docs
    framesearch ingest --into news --encoder python:gme_encoder:Gme videos/*.mp4

It needs transformers 5 and follows what GME's own code does: a chat message with an instruction, the last token of the last layer, and
positions that count on without regard to the picture. That code itself needs transformers below 5.
`GME_MODEL` names another size, or the folder of the model where there is no network.
"""

import os
import threading

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

QUERY = "Find an image that matches the given text."
PICTURE = "You are a helpful assistant."
PATCH = 28 * 28
"""Pixels that become one token."""


class Gme:
    def __init__(self) -> None:
        model = os.environ.get("GME_MODEL", "Alibaba-NLP/gme-Qwen2-VL-2B-Instruct")
        self.name = f"GME ({model})"
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float16 if self._device == "cuda" else torch.float32
        self._processor = AutoProcessor.from_pretrained(model)
        self._processor.image_processor.size = {"shortest_edge": 256 * PATCH, "longest_edge": 1280 * PATCH}
        self._processor.tokenizer.padding_side = "right"
        self._model = Qwen2VLForConditionalGeneration.from_pretrained(model, dtype=dtype).to(self._device).eval()
        self.dim = self._model.config.get_text_config().hidden_size
        self._lock = threading.Lock()

    def encode_text(self, texts):
        batches = [texts[i : i + 16] for i in range(0, len(texts), 16)]
        return np.concatenate([self._encode([chat(QUERY, text) for text in some]) for some in batches])

    def encode_images(self, images):
        message = chat(PICTURE, "<|vision_start|><|image_pad|><|vision_end|>")
        batches = [images[i : i + 4] for i in range(0, len(images), 4)]
        return np.concatenate(
            [self._encode([message] * len(some), [Image.fromarray(image) for image in some]) for some in batches]
        )

    def too_long(self, text):
        return len(text) > 5000

    def _encode(self, messages, images=None):
        inputs = self._processor(text=messages, images=images, padding=True, return_tensors="pt").to(self._device)
        n, length = inputs["input_ids"].shape
        inputs["position_ids"] = torch.arange(length, device=self._device).expand(3, n, length)
        with self._lock, torch.inference_mode():
            hidden = self._model.model(**inputs, use_cache=False).last_hidden_state
            last = inputs["attention_mask"].sum(dim=1) - 1
            return hidden[torch.arange(n, device=self._device), last].float().cpu().numpy()


def chat(instruction: str, content: str) -> str:
    return (
        f"<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n{content}<|im_end|>\n"
        "<|im_start|>assistant\n<|endoftext|>"
    )
