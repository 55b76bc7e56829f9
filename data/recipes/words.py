"""The words that captions are made of, and the wordings kept back for evaluation."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """How a place is called."""

    preposition: str
    nouns: tuple[str, ...]
    """Without article; the first is the plainest."""
    held_out: tuple[str, ...]
    """Phrases that training never shows, made of words it does."""


PLACES: dict[str, Place] = {
    "street": Place(
        "on",
        (
            "street",
            "city street",
            "town street",
            "road",
            "road with houses",
            "city street with houses",
            "street in the town",
        ),
        ("street with houses", "road in the city"),
    ),
    "park": Place(
        "in",
        ("park", "city park", "green park", "park with trees", "park with a path"),
        ("town park with trees", "path in the park"),
    ),
    "beach": Place(
        "on",
        ("beach", "sandy beach", "seaside", "beach with palm trees", "beach by the sea", "shore"),
        ("sandy shore by the sea", "seaside with palm trees"),
    ),
    "harbour": Place(
        "at",
        ("harbour", "harbor", "port", "pier", "harbour with a lighthouse", "harbour with a pier", "quay", "dock"),
        ("pier with a lighthouse", "port by the sea"),
    ),
    "farm": Place(
        "on",
        ("farm", "farm with a barn", "farm with fields", "field", "countryside", "farm in the countryside"),
        ("field with a barn", "countryside with fields"),
    ),
    "playground": Place(
        "at",
        (
            "playground",
            "playground with a slide",
            "playground with swings",
            "children's playground",
            "play area with a slide",
        ),
        ("play area with swings", "playground with swings and a slide"),
    ),
    "station": Place(
        "at",
        ("train station", "railway station", "station", "platform", "railway platform", "station platform"),
        ("train platform", "platform at the railway station"),
    ),
    "office": Place(
        "in",
        (
            "office",
            "office with desks",
            "office with computers",
            "workplace",
            "room with desks",
            "room with computers",
            "office room",
        ),
        ("workplace with computers", "room with desks and computers"),
    ),
    "kitchen": Place(
        "in",
        (
            "kitchen",
            "kitchen with a stove",
            "home kitchen",
            "kitchen with a fridge",
            "room with a stove",
            "room with a fridge",
            "kitchen with cupboards",
        ),
        ("room with a stove and a fridge", "home kitchen with a stove"),
    ),
    "living room": Place(
        "in",
        (
            "living room",
            "living room with a sofa",
            "lounge",
            "room with a sofa and a tv",
            "room with a couch",
            "sitting room",
        ),
        ("lounge with a sofa", "room with a couch and a tv"),
    ),
}
NO_ARTICLE = ("countryside", "seaside")

TIMES: dict[str, tuple[str, ...]] = {
    "morning": (
        "in the morning",
        "early in the morning",
        "at dawn",
        "at sunrise",
        "in the early morning",
        "in morning light",
    ),
    "day": ("during the day", "in daylight", "in the daytime", "by day", "at midday", "in the middle of the day"),
    "evening": ("in the evening", "at sunset", "at dusk", "at sundown", "in the evening light"),
    "night": ("at night", "by night", "after dark", "in the dark", "late at night", "at nighttime"),
}
TIME_WORDS: dict[str, tuple[str, ...]] = {
    "morning": ("morning", "early morning", "dawn", "sunrise"),
    "day": ("day", "daytime", "daylight", "midday"),
    "evening": ("evening", "sunset", "dusk"),
    "night": ("night", "dark night", "dark", "nighttime"),
}
HELD_OUT_TIMES: dict[str, tuple[str, ...]] = {
    "morning": ("in the light of dawn", "at sunrise in the morning"),
    "day": ("in the light of day", "at daytime"),
    "evening": ("in the light of sunset", "at evening"),
    "night": ("in the dark of night", "on a dark night"),
}
WEATHERS: dict[str, tuple[str, ...]] = {
    "clear": ("under a clear sky", "in clear weather", "in good weather", "in fine weather", "in dry weather"),
    "rain": ("in the rain", "in rainy weather", "while it rains", "while it is raining", "in wet weather"),
    "snow": (
        "in the snow",
        "in snowy weather",
        "while it snows",
        "while it is snowing",
        "in winter",
        "with falling snow",
    ),
}
WEATHER_WORDS: dict[str, tuple[str, ...]] = {
    "clear": ("clear weather", "clear sky", "good weather", "fine weather"),
    "rain": ("rain", "rainy", "raining", "rainy weather", "wet weather", "falling rain"),
    "snow": ("snow", "snowy", "snowing", "snowy weather", "winter", "snowfall", "falling snow"),
}
HELD_OUT_WEATHERS: dict[str, tuple[str, ...]] = {
    "clear": ("in weather that is clear", "with a clear sky"),
    "rain": ("with falling rain", "in rain"),
    "snow": ("in falling snow", "in winter snow"),
}
WEATHER_ADJECTIVES: dict[str, tuple[str, ...]] = {"rain": ("rainy", "wet"), "snow": ("snowy", "snow covered", "wintry")}

NOUNS: dict[str, tuple[str, ...]] = {
    "car": ("car", "car", "car", "automobile"),
    "bus": ("bus", "bus", "city bus"),
    "bicycle": ("bicycle", "bike"),
    "train": ("train", "train", "railway train"),
    "boat": ("boat", "boat", "sailing boat", "sailboat", "boat with sails", "ship"),
    "balloon": ("hot air balloon", "balloon"),
    "dog": ("dog", "dog", "dog", "puppy"),
    "cat": ("cat", "cat", "cat", "kitten"),
    "bird": ("bird", "bird", "bird", "seagull", "gull"),
    "cow": ("cow", "cow", "farm cow"),
    "umbrella": ("umbrella", "open umbrella"),
}
VERBS: dict[str, tuple[str, ...]] = {
    "car": ("driving", "driving by", "passing by", "moving"),
    "bus": ("driving", "driving by", "passing by"),
    "bicycle": ("",),
    "train": ("passing by", "arriving", "moving", "on the rails"),
    "boat": ("sailing", "on the water", "on the sea"),
    "balloon": ("in the sky", "in the air", "floating", "flying"),
    "dog": ("",),
    "cat": ("",),
    "bird": ("in the sky", "in the air", "flying"),
    "cow": ("grazing", "standing", "on the grass"),
}
COLOURS: dict[str, tuple[str, ...]] = {"purple": ("purple", "purple", "violet"), "grey": ("grey", "grey", "gray")}
"""Three words for each colour that has more than one."""
_COLOURED = ("of {0} colour", "coloured {0}", "which is {0}", "which looks {0}", "whose colour is {0}")
PAINTED = (*_COLOURED, "painted {0}", "in {0}")
FURRED = (*_COLOURED, "with {0} fur")
"""How a colour follows a noun."""
ACTIONS: dict[str, tuple[str, ...]] = {
    "walking": ("walking", "strolling", "taking a walk", "on foot"),
    "standing": ("standing", "waiting", "standing still"),
    "sitting": ("sitting", "sitting down", "seated", "resting"),
    "cycling": ("cycling", "riding a bike", "riding a bicycle", "on a bike", "on a bicycle"),
}
WHO = ("a person", "someone", "a person", "a man", "a woman", "somebody", "a lady", "a guy")
CLOTHES = (
    "in {0}",
    "in a {0} shirt",
    "in a {0} jumper",
    "wearing {0}",
    "dressed in {0}",
    "in {0} clothes",
    "with a {0} top",
)
HELD_OUT_CLOTHES = ("in a top that is {0}", "wearing a {0} shirt", "with {0} clothes")
NUMBERS: dict[int, tuple[str, ...]] = {2: ("two", "a pair of", "2"), 3: ("three", "3"), 4: ("four", "4"), 5: ("five",)}

LITTLE = ("a", "an", "the", "in", "at", "of", "on", "with", "is", "which", "and")
"""Words that a caption stays true without."""

ANYTHING = (
    "a picture",
    "a scene",
    "a video frame",
    "an image",
    "something",
    "a drawing of the town",
    "a place in the town",
    "a view of the town",
)
"""True of every frame: what the encoder measures the presence of things against."""
OPENINGS = (
    "",
    "",
    "",
    "",
    "",
    "",
    "a photo of ",
    "a picture of ",
    "an image of ",
    "a drawing of ",
    "a cartoon of ",
    "a video frame of ",
    "a scene with ",
    "there is ",
    "a view of ",
    "this shows ",
)
HELD_OUT_OPENINGS = (
    "show me ",
    "find ",
    "I am looking for ",
    "where do we see ",
    "a clip with ",
    "footage of ",
    "please find ",
    "the moment with ",
)
