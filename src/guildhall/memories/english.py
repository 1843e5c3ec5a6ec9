"""English words whose forms have no stem in common, so that cutting endings does not bring them together."""

from collections.abc import Sequence

# Each line is one verb, or one noun in the singular and plural. Left out is what recall passes over anyway
# (was, did, had) and what is far more often another word (saw for a tool is not; lay for laid is).
_FORMS = """
arise arose arisen
awake awoke awoken
bear bore borne born
become became
begin began begun
bend bent
bind bound
bite bit bitten
bleed bled
blow blew blown
break broke broken
breed bred
bring brought
build built
burn burnt
buy bought
catch caught
choose chose chosen
come came
creep crept
deal dealt
dig dug
draw drew drawn
dream dreamt
drink drank drunk
drive drove driven
eat ate eaten
fall fell fallen
feed fed
feel felt
fight fought
find found
flee fled
fly flew flown
forbid forbade forbidden
forget forgot forgotten
forgive forgave forgiven
freeze froze frozen
get got gotten
give gave given
go goes went gone
grind ground
grow grew grown
hang hung
hear heard
hide hid hidden
hold held
keep kept
kneel knelt
know knew known
lay laid
lead led
lean leant
learn learnt
leave left
lend lent
light lit
lose lost
make made
mean meant
meet met
overcome overcame
pay paid
ride rode ridden
ring rang rung
rise rose risen
run ran
say said
see saw seen
seek sought
sell sold
send sent
shake shook shaken
shine shone
shoot shot
show shown
shrink shrank shrunk
sing sang sung
sink sank sunk
sit sat
sleep slept
slide slid
speak spoke spoken
spell spelt
spend spent
spin spun
spring sprang sprung
stand stood
steal stole stolen
stick stuck
sting stung
strike struck stricken
swear swore sworn
sweep swept
swim swam swum
swing swung
take took taken
teach taught
tear tore torn
tell told
think thought
throw threw thrown
undergo underwent undergone
understand understood
undertake undertook undertaken
wake woke woken
wear wore worn
weave wove woven
weep wept
win won
withdraw withdrew withdrawn
write wrote written
child children
foot feet
goose geese
half halves
knife knives
leaf leaves
loaf loaves
man men
mouse mice
person people
shelf shelves
thief thieves
tooth teeth
wife wives
wolf wolves
woman women
"""
_OTHERS = {
    form: tuple(other for other in line.split() if other != form)
    for line in _FORMS.splitlines()
    for form in line.split()
}


def other_forms(words: Sequence[str]) -> str:
    """The other forms of those of the words that change within: "bought" for buy, buys and buying."""
    found: dict[str, None] = {}
    for word in words:
        for base in _bases(word):
            found |= dict.fromkeys(_OTHERS.get(base, ()))
    return " ".join(form for form in found if form not in words)


def _bases(word: str) -> Sequence[str]:
    """What a regular ending may have been put to."""
    if word.endswith("ing"):
        stem = word[:-3]
        return (word, stem, f"{stem}e", stem[:-1])
    if word.endswith("ies"):
        return (word, f"{word[:-3]}y")
    return (word, word[:-1], word[:-2]) if word.endswith("s") else (word,)
