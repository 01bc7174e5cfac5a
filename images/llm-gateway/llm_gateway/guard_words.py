"""The words that the guard of the semantic cache looks at. English only: elsewhere, numbers and names count."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _first_of_line(table: str) -> dict[str, str]:
    """Each word of a line with the first word of that line."""
    return {word: line.split()[0] for line in table.splitlines() for word in line.split()}


NUMBERS = _first_of_line("""
0 zero
1 first once
2 two second twice double
3 three third triple
4 four fourth
5 five fifth
6 six sixth
7 seven seventh
8 eight eighth
9 nine ninth
10 ten tenth
11 eleven eleventh
12 twelve twelfth
13 thirteen thirteenth
14 fourteen fourteenth
15 fifteen fifteenth
16 sixteen sixteenth
17 seventeen seventeenth
18 eighteen eighteenth
19 nineteen nineteenth
20 twenty twentieth
30 thirty thirtieth
40 forty fortieth
50 fifty fiftieth
60 sixty sixtieth
70 seventy seventieth
80 eighty eightieth
90 ninety ninetieth
100 hundred hundredth
1000 thousand thousandth
1000000 million millionth
1000000000 billion billionth
1/2 half
""")
"""Numbers by their words; "one" is more often a pronoun."""

NEGATIONS = _words("""
no not never none nobody nothing neither nor without cannot except excluding unless lack lacks lacking avoid avoiding
prevent stop instead false fail fails
""")

UNITS = _first_of_line("""
km kilometer kilometers kilometre kilometres
mile miles mi
m meter meters metre metres
cm centimeter centimeters centimetre centimetres
mm millimeter millimeters millimetre millimetres
ft foot feet
inch inches
yard yards
kg kilogram kilograms kilo kilos
g gram grams
lb lbs pound pounds
oz ounce ounces
ton tons
tonne tonnes
liter liters litre litres
ml milliliter milliliters millilitre millilitres
gallon gallons
cup cups
pint pints
tablespoon tablespoons
teaspoon teaspoons
celsius centigrade
fahrenheit
kelvin
second seconds
minute minutes
hour hours hourly
day days daily
week weeks weekly
month months monthly
quarter quarters quarterly
year years yearly annual annually
dollar dollars usd
euro euros eur
yen jpy
bit bits
byte bytes
kb kilobyte kilobytes
mb megabyte megabytes
gb gigabyte gigabytes
tb terabyte terabytes
mib
gib
watt watts
kilowatt kilowatts kw
volt volts
amp amps ampere amperes
joule joules
calorie calories
acre acres
hectare hectares
percent percentage
""")
"""Units by their names and abbreviations."""

OPPOSITES = tuple(
    tuple(_words(side) for side in line.split("|"))
    for line in """
increase increases increasing increased raise raising raised | decrease decreases decreasing decreased
rise rises rising | fall falls falling drop drops
increase increases increasing increased raise raising raised | reduce reduces reducing lower lowering lowered
before | after
above over | below under beneath
maximum max most highest largest biggest greatest | minimum min least lowest smallest fewest
more larger bigger greater higher longer | less fewer smaller lower shorter
longest tallest | shortest
oldest older earliest | newest newer latest youngest
first | last final
on | off
enable enables enabled enabling | disable disables disabled disabling
start starts starting begin begins opening | end ends ending finish finishes close closing stop stops
open opens | close closes shut
add adds adding | remove removes removing delete deletes deleting subtract subtracting
create creates creating | delete deletes deleting destroy destroying remove removing
install installing | uninstall uninstalling remove removing
import imports importing | export exports exporting
upload uploads uploading | download downloads downloading
encode encoding | decode decoding
encrypt encrypting encryption | decrypt decrypting decryption
compress compressing | decompress decompressing extract unzip
push pushing | pull pulling
send sends sending | receive receives receiving
buy buying | sell selling
lend lending | borrow borrowing
gain gains gaining | lose loses losing
profit profits | loss losses
pros advantages advantage benefits benefit | cons disadvantages disadvantage drawbacks drawback risks
legal allowed permitted | illegal forbidden prohibited
safe | unsafe dangerous
include includes including | exclude excludes excluding except
ascending | descending
horizontal horizontally | vertical vertically
left | right
north northern | south southern
east eastern | west western
up upgrade upstairs upstream | down downgrade downstairs downstream
in inside into | out outside
input inputs | output outputs
read reading | write writing
connect connecting | disconnect disconnecting
hot heat heating warm | cold cool cooling
male men man boy boys husband | female women woman girl girls wife
best | worst
good | bad
same similar similarities | different difference differences
past previous | future next
today | tomorrow yesterday
tomorrow | yesterday
morning | evening
am | pm
public | private
client clients | server servers
minimize minimise | maximize maximise
positive | negative
win winning | lose losing
fast faster quick quickly | slow slower slowly
hire hiring | fire firing
accept accepting | reject rejecting decline declining
with | without
""".strip().splitlines()
)
"""Words, and those that mean the contrary."""

OPPOSITE_PREFIXES = ("un", "in", "im", "il", "ir", "non", "dis")
"""What turns a word into its contrary."""

DIRECTED = _words("from to into than before after versus over under by for in per")
"""Words on whose two sides a name, number or unit means something else."""

FILLERS = _words("""
a an the this that these those it its i me my we our you your one is are was were be been am do does did can could
should would will shall may might must have has had how what which who whom whose when where why and or of on at as with
about there please tell give s
""")
"""Words whose place says little."""
