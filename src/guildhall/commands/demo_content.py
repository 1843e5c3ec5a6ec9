"""What the demo content says. People are called by their first names here."""

from typing import Literal

import msgspec

PEOPLE = {
    "Ada": "Ada Okafor",
    "Bruno": "Bruno Lindqvist",
    "Chiara": "Chiara Fontana",
    "Dev": "Dev Ramanathan",
    "Elif": "Elif Yıldız",
    "Finn": "Finn O’Rourke",
    "Grace": "Grace Nakamura",
    "Hugo": "Hugo Marchetti",
    "Ines": "Inês Carvalho",
    "Jonas": "Jonas Weber",
    "Kaya": "Kaya Thompson",
    "Luis": "Luis Herrera",
}


class Post(msgspec.Struct, frozen=True):
    by: str
    content: str
    title: str | None = None
    pinned: bool = False


class Group(msgspec.Struct, frozen=True):
    by: str
    name: str
    description: str
    members: tuple[str, ...]
    is_private: bool = False
    posts: tuple[Post, ...] = ()


class Community(msgspec.Struct, frozen=True):
    owner: str
    name: str
    description: str
    admins: tuple[str, ...] = ()
    moderators: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    is_private: bool = False
    invited: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    posts: tuple[Post, ...] = ()


class Wish(msgspec.Struct, frozen=True):
    """A backlog item."""

    title: str
    type: Literal["feature", "bug", "enhancement", "question"]
    priority: Literal["high", "medium", "low"]
    session: Literal["api", "web", "mobile", "onboarding", "account-portal"]
    description: str
    status: Literal["open", "in-progress", "done"] = "open"


GARDENERS = Community(
    owner="Ada",
    name="Riverside Gardeners",
    description="Forty plots between the railway bridge and the river. Seeds, tools and advice are shared.",
    admins=("Bruno",),
    moderators=("Chiara",),
    members=("Dev", "Elif", "Finn", "Grace", "Hugo", "Ines"),
    groups=(
        Group(
            by="Ada",
            name="Seed library",
            description="What we have, what we lend, and what came up.",
            members=("Chiara", "Elif", "Grace"),
            posts=(
                Post(
                    "Ada",
                    "The library opens **Saturdays from 10 to 12** in the blue shed. Take what you will sow,"
                    " bring back a third of what you harvest.",
                    "How lending works",
                    pinned=True,
                ),
                Post("Elif", "The Anatolian chickpeas germinated in six days. I can spare about fifty."),
                Post("Grace", "Does anybody have *mizuna* left? Mine bolted before I could save any."),
            ),
        ),
        Group(
            by="Bruno",
            name="Committee",
            description="Plots, money and the key to the water.",
            members=("Ada", "Chiara"),
            is_private=True,
            posts=(
                Post(
                    "Bruno",
                    "- water meter: read on the 1st\n- plot 17: two people wait\n- hedge: who has a ladder?",
                    "For Thursday",
                ),
            ),
        ),
    ),
    posts=(
        Post(
            "Ada",
            "Glad you are here! Three things to know:\n\n1. The gate code is in the shed.\n2. Compost goes to"
            " bay **two**; bay one is resting.\n3. Whoever leaves last shuts the water off.",
            "Welcome to the riverside",
            pinned=True,
        ),
        Post(
            "Bruno",
            "We meet at nine with gloves and wheelbarrows. Soup at noon; say if you eat no beans.",
            "Spring clean-up on the 14th",
        ),
        Post("Finn", "A heron took the last goldfish. The pond group may want a net, or a new name."),
        Post(
            "Ines",
            "| Bed | Last year | This year |\n|---|---|---|\n| A | potatoes | beans |\n"
            "| B | beans | cabbage |\n| C | cabbage | resting |",
            "Rotation for the shared beds",
        ),
        Post("Dev", "Found a pair of red secateurs beside plot 9. They are on the hook inside the shed."),
        Post(
            "Grace", "Frost tonight, minus two by four in the morning. Fleece is in the blue shed, top shelf."
        ),
    ),
)

STARGAZERS = Community(
    owner="Grace",
    name="Night Sky Club",
    description="Telescopes, tea and dark places within an hour of town.",
    admins=("Jonas",),
    moderators=("Kaya",),
    members=("Ada", "Dev", "Luis", "Hugo"),
    groups=(
        Group(
            by="Jonas",
            name="Telescope loans",
            description="Two Dobsonians and a refractor, a week at a time.",
            members=("Grace", "Luis", "Dev"),
            posts=(
                Post(
                    "Jonas",
                    "The eight-inch is free from Monday. The finder needs a new battery, CR2032.",
                    "Free",
                ),
                Post("Luis", "Back in its box, mirror clean, and one very happy nine-year-old."),
            ),
        ),
    ),
    posts=(
        Post(
            "Grace",
            "We go when the sky is clear and the moon is not in the way. The place is posted by **five in"
            " the afternoon**; red lights only, please.",
            "How an evening works",
            pinned=True,
        ),
        Post("Kaya", "Andromeda with bare eyes from the quarry last night. Bring the children."),
        Post(
            "Jonas",
            "Collimation in four steps: centre the secondary, aim it at the primary, tilt the primary, look"
            " at a star. I show it on Friday for whoever wants.",
            "Friday: collimation",
        ),
        Post("Luis", "Is there a bus back from the reservoir after eleven, or does somebody have a seat?"),
    ),
)

REPAIR = Community(
    owner="Luis",
    name="Repair Café Team",
    description="The people behind the second Sunday: fixers, bakers and the one who counts the screws.",
    admins=("Ines",),
    members=("Hugo", "Kaya", "Finn"),
    is_private=True,
    invited=("newcomer@demo.example",),
    posts=(
        Post(
            "Luis",
            "14 lamps, 9 toasters, 3 radios, one accordion. 22 of 27 went home working. Thank you all.",
            "Last Sunday in numbers",
            pinned=True,
        ),
        Post("Ines", "The hall has a new key. Ring me on the day; I come at half past nine."),
        Post("Hugo", "I need a second soldering station, or a very patient friend."),
    ),
)

COMMUNITIES = (GARDENERS, STARGAZERS, REPAIR)

WISHES = (
    Wish(
        "Let a group have a picture of its own",
        "feature",
        "low",
        "web",
        "Communities have a logo and a cover. Groups look alike in the list.",
    ),
    Wish(
        "Show how many posts are new since the last visit",
        "enhancement",
        "medium",
        "mobile",
        "The summary knows the number; the list of communities could carry it.",
    ),
    Wish(
        "An invite sent twice tells the second person nothing",
        "bug",
        "high",
        "onboarding",
        "The new invite replaces the open one, and the older link should say so more kindly.",
        status="in-progress",
    ),
    Wish(
        "Can a moderator hand on the role?",
        "question",
        "low",
        "web",
        "When somebody moves away they would like to name who follows.",
    ),
    Wish(
        "Name the bad field in every refusal",
        "enhancement",
        "high",
        "api",
        "A pointer to each field, all of them at once.",
        status="done",
    ),
)
