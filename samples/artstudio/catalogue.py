"""Every sample artwork: its family, invented artist, title, caption, licence and size."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from artstudio import (
    cities,
    design,
    drawings,
    fields,
    glitches,
    mosaics,
    objects,
    paint,
    points,
    prints,
    views,
)
from artstudio.canvas import RGB, Commission

Family = Callable[[Commission], RGB]

FAMILIES: Mapping[str, Family] = {
    "flow_field": fields.flow_field,
    "fractal": fields.fractal,
    "tiling": fields.tiling,
    "woodcut": prints.woodcut,
    "engraving": prints.engraving,
    "landscape": views.landscape,
    "seascape": views.seascape,
    "city": cities.city,
    "still_life": objects.still_life,
    "botanical": drawings.botanical,
    "line_art": drawings.line_art,
    "pointillism": points.pointillism,
    "watercolour": paint.watercolour,
    "expressionist": paint.expressionist,
    "cubist": mosaics.cubist,
    "stained_glass": mosaics.stained_glass,
    "poster": design.poster,
    "collage": design.collage,
    "geometric": design.geometric,
    "glitch": glitches.glitch,
}

_LICENCES = {"0": "CC0-1.0", "B": "CC-BY-4.0", "R": "LicenseRef-All-Rights-Reserved", "-": ""}

# family | artist, then one line per work: licence, format, width × height, title | caption
_LIST = """
flow_field | Ines Marlowe
0 jpg 640x512 Tidewater | bright ribbons swirling over a dark blue ground, generative flow field
0 jpg 512x640 Three Eddies | thin ink lines turning round three whirlpools on cream paper
B jpg 576x576 Ember Grass | flowing bands of red and amber rising like burning grass
fractal | Quill Okonjo
B jpg 672x512 Dragon in Amber | a Julia set curled like a dragon, blue and gold on red
B jpg 528x640 Five Basins | Newton fractal with five glossy basins in red, gold, blue, green and purple
0 jpg 608x608 Night Ferns | glowing mathematical ferns against a dark green night
tiling | Sabela Norr
0 png 560x560 Sun Wheel | a mandala of petals in terracotta, sage and sand on indigo
B jpg 512x640 Courtyard Floor | glazed star tiles in teal, gold and brick red
R jpg 576x576 Crossing Paths | Truchet arcs in navy, rose and green weaving over cream
woodcut | Old Harrow Press
0 jpg 640x512 Three Birches by the Lake | a woodcut of three birch trees by a lake under an orange sun
B jpg 480x640 House with Two Lit Windows | a woodcut of a house on a hill under a crescent moon, windows lit
R jpg 576x544 The Laughing Whale | a woodcut of a whale rising over rows of waves, blue ink
engraving | Tobias Venn
0 jpg 640x496 The Witness | an engraving of a wide open eye, hatched in brown ink
0 jpg 512x608 Chambered | a nautilus shell engraved in fine blue lines
R jpg 576x576 Ascent over the Downs | hot air balloons above hills, old copper engraving
landscape | Maren Solheim
0 jpg 704x512 Morning in the Seventh Valley | misty mountains in layers, pine forest, pale sun, flying birds
B jpg 512x640 River in October | an autumn river winding through red and orange trees
R jpg 640x640 Mesa Hour | desert mesas and cacti in front of a striped setting sun, purple dusk
seascape | Corwin Bay
B jpg 688x512 The Patient Frigate | a tall ship in a storm, breaking waves and driving rain
0 jpg 512x640 Lamp and Moon | a lighthouse on a cliff and the moon's path over a calm night sea
R jpg 608x608 Scalloped Sea | a small boat on patterned waves under a red sun, in the manner of a screen print
city | Juno Castellane
R jpg 704x528 Harbour Lights, Doubled | a city skyline by night reflected in rippling water
B jpg 544x640 Ten Thousand Windows | crowded isometric city blocks at night, warm windows
- jpg 576x640 Red Umbrella | a figure with a red umbrella in a wet neon street
still_life | Alder Finch
0 jpg 672x528 Green Bottle and Four Apples | a still life of a green bottle, a clay pot and apples on a table
R jpg 528x672 Seventeen Stems | a still life of flowers in a blue vase with one orange
0 jpg 640x608 Plaster Lesson | plaster solids and a red ball in strong side light
botanical | Herbarium Lund
0 jpg 512x640 Ramosa rubra | a botanical plate of a red flowering branch on old paper
B jpg 480x640 Spica aurea | a botanical plate of a golden flowering shrub
- jpg 544x640 Arbor lenta | a botanical plate of a wind-bent tree with small green leaves
line_art | Pia Ostrow
0 png 560x512 Cat, One Line | a minimalist line drawing of a sitting cat
B webp 512x640 Window Sill | a line drawing of a pot plant in front of a peach circle
R png 512x576 Listening | a continuous line drawing of a face in profile
pointillism | Odette Varga
B jpg 608x464 Parasols by the Lake | a pointillist park with parasols, trees and a lake
- jpg 480x608 Boats Coming Home | pointillist sailing boats in a harbour at sunset
R jpg 512x512 The Red Barn | a pointillist field of sunflowers with a red barn
watercolour | Lien Abara
0 jpg 640x512 Loose Bouquet | loose watercolour flowers in pink, violet and orange
B jpg 512x640 Cold Lake | a watercolour of a mountain lake with dark firs
- webp 576x576 Pools | overlapping transparent watercolour circles in many colours
expressionist | R. K. Dane
R jpg 688x528 Argument in Primary Colours | abstract brush strokes and drips, red, yellow, blue, black
0 jpg 480x640 Ember, Dusk, Wheat | three soft-edged fields of colour, orange, plum and ochre on red
- jpg 560x560 Loose Wire | thrown and dripped paint in black, white, red and yellow on raw canvas
cubist | Benat Irigoyen
R jpg 544x640 Woman in a Red Coat | a cubist portrait of a woman in a red coat
0 jpg 512x640 Guitar and Newspaper | a cubist still life with guitar, newspaper and bottle
B jpg 608x560 Two Who Nearly Spoke | two profiles facing each other, cubist, red and blue
stained_glass | Atelier Clair
B jpg 576x576 Rose Window | a stained glass rose window in red, gold and violet on deep blue
- jpg 480x640 First Light | stained glass with a sunrise over green hills and a stream
0 webp 608x512 The Striped Fish | a stained glass fish among water plants and bubbles
poster | Studio Halftone
R png 512x672 Rhythm | a concert poster with the word RHYTHM tumbling over an orange disc
- jpg 512x672 Festival of Small Bands | a jazz festival poster with stacked letters and coloured bars
B jpg 608x608 Letters Are Animals | a typographic poster of scattered letters in black, red and yellow
collage | Greta Amsel
0 jpg 672x528 Postcard from the Ridge | a torn paper collage of mountains, newsprint and a yellow sun
R jpg 512x640 Cut Flowers | cut paper flowers in a striped vase
- jpg 608x608 Drawer of Scraps | a collage of torn patterned papers on dark board
geometric | Emil Rask
B png 672x576 Quarter Turns | a grid of arcs, circles and stripes in red, teal, orange and navy
0 jpg 544x640 Suspended | circles, lines and a chequerboard floating on cream, abstract geometry
- webp 608x608 Room with Lamp | a flat design living room with a lamp, an armchair and a picture
glitch | NULLPORT
R jpg 640x512 Signal Sunset | a synthwave sunset over a neon grid, broken by glitches
B jpg 512x640 Marble, Corrupted | a classical bust dissolving in pixel sorting and split channels
- jpg 608x512 No Signal | a television test card torn by digital glitches
"""


@dataclass(frozen=True)
class Work:
    """One sample artwork, before it is drawn."""

    family: str
    variant: int
    width: int
    height: int
    file_name: str
    title: str
    artist: str
    licence: str
    source: str
    caption: str

    def draw(self) -> RGB:
        """Draws the artwork, uint8, (height, width, 3)."""
        return draw(self.family, variant=self.variant, width=self.width, height=self.height)


def draw(family: str, *, variant: int, width: int, height: int) -> RGB:
    """Draws one composition of a family; the same arguments give the same pixels."""
    seed = zlib.crc32(f"{family}/{variant}".encode())
    return FAMILIES[family](Commission(np.random.default_rng(seed), width, height, variant))


def works() -> tuple[Work, ...]:
    """Lists all sample artworks in the order of the catalogue."""
    listed: list[Work] = []
    family = artist = ""
    for line in _LIST.strip().splitlines():
        head, tail = (part.strip() for part in line.split("|"))
        if head in FAMILIES:
            family, artist = head, tail
            continue
        licence, extension, size, title = head.split(maxsplit=3)
        width, height = (int(side) for side in size.split("x"))
        variant = sum(work.family == family for work in listed)
        slug = artist.lower().replace(".", "").replace(" ", "-")
        listed.append(
            Work(
                family=family,
                variant=variant,
                width=width,
                height=height,
                file_name=f"{family.replace('_', '-')}-{variant + 1}.{extension}",
                title=title,
                artist=artist,
                licence=_LICENCES[licence],
                source=f"https://example.org/{slug}/{variant + 1}",
                caption=tail,
            )
        )
    return tuple(listed)
