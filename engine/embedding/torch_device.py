"""Where a model is computed: the device that torch is to use, once it can be imported."""

from __future__ import annotations

from engine.embedding.model_files import model_shortage, quoted_encoder
from engine.errors import EncoderError
from engine.system import can_start_threads


def usable_device(name: str, device: str | None) -> str:
    """The device asked for, or the GPU if there is one, tried out; threads of torch that cannot be started are done without.

    Parameters
    ----------
    name : of the encoder that is loaded, for messages

    Raises
    ------
    EncoderError
        If the device cannot be used.
    ResourceExhausted
        If memory or the like ran out.
    """
    import torch

    if not can_start_threads(torch.get_num_threads() - 1):
        torch.set_num_threads(1)  # Its OpenMP ends the process where a thread cannot be started.
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=where)
    except (RuntimeError, AssertionError) as error:
        short = model_shortage(f"loading the encoder {quoted_encoder(name)}", error)
        raise short or EncoderError(
            f"The device {where!r} cannot be used here; give 'cpu', or none to choose one."
        ) from error
    return where
