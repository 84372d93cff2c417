//! Bytes against accuracy, a panel for each architecture.

use lowkey::report::human_bytes;
use serde::Deserialize;

use super::families;
use super::labels::{Area, Places, along};
use super::svg::{Anchor, At, BLUE, Canvas, Colour, GREEN, GREY, INK, Ink, MINT, PALE, RED, ROSE, SAND, SKY};

/// An architecture at some widths.
pub struct Panel {
    /// "MNIST, MiniONN".
    pub title: String,
    /// Percent, of the network in floating point.
    pub float: Option<f64>,
    /// From narrow to wide.
    pub widths: Vec<Width>,
    /// Bits of one of them, and its bytes at 32-bit integers.
    pub baseline: Option<(u32, f64)>,
    /// Bytes of another program, which computes the network in fixed point.
    pub peer: Option<f64>,
    /// Networks that were made cheaper, each kind from few bytes to many.
    pub cheaper: Vec<(Way, Vec<Cheaper>)>,
}

/// How a network was made cheaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Narrower rings alone.
    Rings,
    /// Narrower activations alone.
    Widths,
    /// Coins alone.
    Tosses,
    /// Blocks of pixels with one sign each, with narrower rings.
    Blocks,
    /// Narrower rings and activations.
    Exact,
    /// And coins.
    Coins,
    /// And trained with them.
    Trained,
}

impl Way {
    const ALL: [Way; 7] = [Way::Rings, Way::Widths, Way::Tosses, Way::Blocks, Way::Exact, Way::Coins, Way::Trained];

    fn colour(self) -> Colour {
        match self {
            Self::Rings => SKY,
            Self::Widths => SAND,
            Self::Tosses => ROSE,
            Self::Blocks => MINT,
            Self::Exact => GREEN,
            Self::Coins => RED,
            Self::Trained => INK,
        }
    }

    fn mark(self, canvas: &mut Canvas, at: At) {
        match self {
            Self::Rings | Self::Widths | Self::Exact => canvas.disc(at, self.colour()),
            Self::Tosses | Self::Coins => canvas.triangle(at, self.colour()),
            Self::Blocks | Self::Trained => canvas.square(at, self.colour()),
        }
    }

    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Rings => &["w4 with narrower rings alone,", "nothing trained"],
            Self::Widths => &["w4 with narrower activations", "alone, nothing trained"],
            Self::Tosses => &["w4 with coins of the client", "alone, nothing trained"],
            Self::Blocks => &["w4 with a sign for 2x2 pixels in", "two layers, and narrower rings"],
            Self::Exact => &["w4 with narrower rings and", "activations, nothing trained"],
            Self::Coins => &["and coins of the client for", "some roundings, nothing trained"],
            Self::Trained => &["the same, fine-tuned with", "its choices in the loop"],
        }
    }
}

/// A network that was made cheaper.
#[derive(Clone, Copy)]
pub struct Cheaper {
    /// As of a [`Width`].
    pub bytes: f64,
    /// Percent.
    pub accuracy: f64,
}

/// A network.
#[derive(Clone, Copy)]
pub struct Width {
    pub bits: u32,
    /// Of one inference, both directions, offline and online.
    pub bytes: f64,
    /// Percent.
    pub accuracy: f64,
}

impl Panel {
    /// An empty one of a family.
    pub fn of(family: &str) -> Self {
        let peer = families::peer(family);
        let title = families::title(family).to_owned();
        Self { title, float: None, widths: Vec::new(), baseline: None, peer, cheaper: Vec::new() }
    }
}

const PANEL: (f64, f64) = (312.0, 292.0);
/// Above the panels.
const TITLE: f64 = 84.0;
/// Of a cell's height, for the key; of its lines, and between its entries.
const KEY: f64 = 235.0;
const LINE: f64 = 18.0;
const BETWEEN: f64 = 11.0;
const NAME: Ink = Ink::new(13.0, INK);
const SMALL: Ink = Ink::new(12.0, GREY);

/// Draws them: an SVG file.
pub fn draw(panels: &[Panel]) -> String {
    // Cells more for the key.
    let key = key(panels);
    let cells = panels.len() + key.len();
    let columns = if cells == 4 { 2 } else { cells.min(3) };
    // The key's are in one row.
    let first = match panels.len() % columns + key.len() <= columns {
        true => panels.len(),
        false => panels.len().next_multiple_of(columns),
    };
    let cells = first + key.len();
    let rows = cells.div_ceil(columns);
    let title = "What a private answer sends, and how accurate it is";
    let mut canvas = Canvas::new(PANEL.0 * columns as f64 + 12.0, TITLE + PANEL.1 * rows as f64, title);
    canvas.text(title, (16.0, 24.0), Anchor::Start, Ink::new(19.0, INK).bold());
    let words = [
        "across: bytes of one inference, both directions, offline and online; a logarithmic axis",
        "up: percent of test images right",
    ];
    for (line, words) in words.into_iter().enumerate() {
        canvas.text(words, (16.0, 47.0 + 18.0 * line as f64), Anchor::Start, Ink::new(13.0, GREY));
    }
    let corner = |index: usize| (PANEL.0 * (index % columns) as f64, TITLE + PANEL.1 * (index / columns) as f64);
    for (index, panel) in panels.iter().enumerate() {
        Scaled::new(panel, corner(index)).draw(&mut canvas);
    }
    for (index, entries) in key.iter().enumerate() {
        draw_key(&mut canvas, corner(first + index), entries);
    }
    canvas.svg()
}

/// A panel and its scales.
struct Scaled<'p> {
    panel: &'p Panel,
    corner: At,
    frame: Area,
    /// Logarithms of bytes.
    x: [f64; 2],
    /// Percent.
    y: [f64; 2],
}

impl<'p> Scaled<'p> {
    fn new(panel: &'p Panel, corner: At) -> Self {
        let frame = Area {
            left: corner.0 + 58.0,
            top: corner.1 + 32.0,
            right: corner.0 + PANEL.0 - 6.0,
            bottom: corner.1 + PANEL.1 - 36.0,
        };
        let others = panel.baseline.map(|(_, bytes)| bytes).into_iter().chain(panel.peer);
        let cheaper = || panel.cheaper.iter().flat_map(|(_, networks)| networks);
        let bytes: Vec<f64> =
            panel.widths.iter().map(|width| width.bytes).chain(others).chain(cheaper().map(|one| one.bytes)).collect();
        let accuracies: Vec<f64> = panel
            .widths
            .iter()
            .map(|width| width.accuracy)
            .chain(panel.float)
            .chain(cheaper().map(|one| one.accuracy))
            .collect();
        let ends = |values: &[f64]| {
            let least = values.iter().copied().fold(f64::MAX, f64::min);
            [least, values.iter().copied().fold(f64::MIN, f64::max)]
        };
        let [least, most] = ends(&bytes).map(|bytes| bytes.max(1.0).log10());
        let room = (most - least).max(0.5) * 0.1;
        let [low, high] = ends(&accuracies);
        let above = (high - low).max(0.5) * 0.14;
        Self { panel, corner, frame, x: [least - room, most + room], y: [low - above, high + above] }
    }

    fn at(&self, bytes: f64, accuracy: f64) -> At {
        let part = |value: f64, [from, to]: [f64; 2]| (value - from) / (to - from);
        let (wide, high) = (self.frame.right - self.frame.left, self.frame.bottom - self.frame.top);
        (
            self.frame.left + part(bytes.max(1.0).log10(), self.x) * wide,
            self.frame.bottom - part(accuracy, self.y) * high,
        )
    }

    fn draw(&self, canvas: &mut Canvas) {
        let Self { panel, corner, frame, .. } = self;
        canvas.text(&panel.title, (frame.left, corner.1 + 16.0), Anchor::Start, Ink::new(14.0, INK).bold());
        self.axes(canvas);
        let points: Vec<At> = panel.widths.iter().map(|width| self.at(width.bytes, width.accuracy)).collect();
        let mut places = Places {
            frame: *frame,
            taken: points.iter().map(|&at| Area::around(at, 6.0)).collect(),
            lines: points.windows(2).flat_map(|ends| along(ends[0], ends[1])).collect(),
            points: points.clone(),
        };
        let mut named: Vec<(String, At, Ink)> = Vec::new();
        if let Some(percent) = panel.float {
            let height = self.at(1.0, percent).1;
            canvas.dashes((frame.left, height), (frame.right, height), GREEN);
            places.lines.extend(along((frame.left, height), (frame.right, height)));
        }
        canvas.path(&points, BLUE, 2.0);
        for (way, networks) in &panel.cheaper {
            let points: Vec<At> = networks.iter().map(|one| self.at(one.bytes, one.accuracy)).collect();
            canvas.path(&points, way.colour(), 1.5);
            places.lines.extend(points.windows(2).flat_map(|ends| along(ends[0], ends[1])));
            for at in points {
                way.mark(canvas, at);
                places.taken.push(Area::around(at, 6.0));
            }
        }
        let own = |bits: u32| panel.widths.iter().find(|width| width.bits == bits);
        if let Some((own, bytes)) = panel.baseline.and_then(|(bits, bytes)| Some((own(bits)?, bytes))) {
            let (from, to) = (self.at(own.bytes, own.accuracy), self.at(bytes, own.accuracy));
            canvas.dashes(from, to, RED);
            places.lines.extend(along(from, to));
            places.taken.push(Area::around(to, 7.0));
            places.points.push(to);
            canvas.triangle(to, RED);
            let saved = 100.0 * (1.0 - own.bytes / bytes);
            named.push((format!("w{} saves {saved:.0} %", own.bits), to, Ink { colour: RED, ..NAME }));
        }
        if let Some((bytes, percent)) = panel.peer.zip(panel.float) {
            let at = self.at(bytes, percent);
            places.taken.push(Area::around(at, 6.0));
            places.points.push(at);
            canvas.square(at, INK);
            named.push((format!("SPU {}", human_bytes(bytes as u64)), at, NAME));
        }
        // The longest names first: they have the fewest places.
        write(canvas, &mut places, &named);
        points.iter().for_each(|&at| canvas.disc(at, BLUE));
        let widths = panel.widths.iter().zip(&points);
        let names = widths.map(|(width, &at)| (format!("w{}", width.bits), at, Ink { colour: BLUE, ..NAME }));
        write(canvas, &mut places, &names.collect::<Vec<_>>());
        if let Some(percent) = panel.float {
            let (name, ink) = (format!("float {percent:.2} %"), Ink { colour: GREEN, ..NAME });
            let height = self.at(1.0, percent).1;
            let along_it: Vec<At> = (0..8).map(|part| (frame.left + 4.0 + 24.0 * f64::from(part), height)).collect();
            let placed = places.place_at_one(&name, &along_it, ink);
            canvas.text(&name, placed.at, placed.anchor, ink.halo());
        }
    }

    /// The frame, percents to the left, bytes below.
    fn axes(&self, canvas: &mut Canvas) {
        let Area { left, top, right, bottom } = self.frame;
        let step = nice_step(self.y[1] - self.y[0]);
        let digits = usize::from(step < 1.0);
        let first = (self.y[0] / step).ceil() as i64;
        for percent in (first..).map(|i| i as f64 * step).take_while(|percent| *percent <= self.y[1].min(100.0)) {
            let height = self.at(1.0, percent).1;
            canvas.line((left, height), (right, height), PALE, 1.0);
            canvas.text(&format!("{percent:.digits$} %"), (left - 6.0, height), Anchor::End, SMALL);
        }
        for bytes in ticks(self.x) {
            let x = self.at(bytes, 0.0).0;
            canvas.line((x, top), (x, bottom), PALE, 1.0);
            canvas.line((x, bottom), (x, bottom + 4.0), GREY, 1.0);
            canvas.text(&short_bytes(bytes), (x, bottom + 14.0), Anchor::Middle, SMALL);
        }
        canvas.path(&[(left, top), (left, bottom), (right, bottom)], GREY, 1.0);
    }
}

/// Names of points, each with a line to its own where that is far.
fn write(canvas: &mut Canvas, places: &mut Places, names: &[(String, At, Ink)]) {
    for (placed, (name, _, ink)) in places.place(names).iter().zip(names) {
        if let Some([from, to]) = placed.leader {
            canvas.line(from, to, GREY, 1.0);
        }
        canvas.text(name, placed.at, placed.anchor, ink.halo());
    }
}

/// A step of 1, 2 or 5 times a power of ten that makes about five of a range.
fn nice_step(range: f64) -> f64 {
    let power = 10f64.powf((range / 5.0).log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| range / (factor * power) <= 6.0);
    factor.unwrap_or(10.0) * power
}

/// Labelled bytes of a logarithmic axis: powers of ten, and what is between them where there is room.
fn ticks([from, to]: [f64; 2]) -> Vec<f64> {
    let rows: [&[f64]; 4] = [&[1.0], &[1.0, 3.0], &[1.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 5.0]];
    let powers = from.floor() as i32..=to.ceil() as i32;
    let within = |factors: &[f64]| -> Vec<f64> {
        let all = powers.clone().flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
        all.filter(|bytes| (from..=to).contains(&bytes.log10())).collect()
    };
    // The fewest of which at least three stand there.
    rows.into_iter().map(within).find(|ticks| ticks.len() > 2).unwrap_or_else(|| within(rows[3]))
}

fn short_bytes(bytes: f64) -> String {
    match bytes {
        ..1e3 => format!("{bytes:.0} B"),
        ..1e6 => format!("{:.0} kB", bytes / 1e3),
        _ => format!("{:.0} MB", bytes / 1e6),
    }
}

/// Draws a mark of the key.
type Mark = Box<dyn Fn(&mut Canvas, At)>;
/// A line of the key: what it says, and its mark.
type Entry = (&'static [&'static str], Mark);

/// What the marks mean, as far as panels have them, cell by cell.
fn key(panels: &[Panel]) -> Vec<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut entry = |lines, mark: Mark| entries.push((lines, mark));
    entry(
        &["Lowkey, exact answers: weights and", "activations of 1 to 8 bits (w1 .. w8)"],
        Box::new(|canvas, at| {
            canvas.line((at.0 - 14.0, at.1), (at.0 + 14.0, at.1), BLUE, 2.0);
            canvas.disc(at, BLUE);
        }),
    );
    for way in Way::ALL {
        if panels.iter().any(|panel| panel.cheaper.iter().any(|(other, _)| *other == way)) {
            let mark = move |canvas: &mut Canvas, at: At| {
                canvas.line((at.0 - 14.0, at.1), (at.0 + 14.0, at.1), way.colour(), 1.5);
                way.mark(canvas, at);
            };
            entry(way.words(), Box::new(mark));
        }
    }
    if panels.iter().any(|panel| panel.baseline.is_some()) {
        entry(
            &["the w4 network in 32-bit integers,", "and what its own widths save"],
            Box::new(|canvas, at| {
                canvas.dashes((at.0 - 14.0, at.1), (at.0, at.1), RED);
                canvas.triangle(at, RED);
            }),
        );
    }
    if panels.iter().any(|panel| panel.float.is_some()) {
        entry(
            &["the network in floating point"],
            Box::new(|canvas, at| canvas.dashes((at.0 - 14.0, at.1), (at.0 + 14.0, at.1), GREEN)),
        );
    }
    if panels.iter().any(|panel| panel.float.is_some() && panel.peer.is_some()) {
        let words: &[&str] = &[
            "SecretFlow SPU 0.9.5 (Cheetah):",
            "fixed point, approximate rounding,",
            "about the float network's accuracy",
        ];
        entry(words, Box::new(|canvas, at| canvas.square(at, INK)));
    }
    let mut cells = vec![Vec::new()];
    let mut left = KEY;
    for own in entries {
        let height = LINE * own.0.len() as f64 + BETWEEN;
        if height > left {
            cells.push(Vec::new());
            left = KEY;
        }
        left -= height;
        cells.last_mut().expect("there is one").push(own);
    }
    cells
}

/// Draws a cell of the key.
fn draw_key(canvas: &mut Canvas, corner: At, entries: &[Entry]) {
    let (x, mut y) = (corner.0 + 50.0, corner.1 + 50.0);
    for (lines, mark) in entries {
        mark(canvas, (x, y));
        for line in *lines {
            canvas.text(line, (x + 24.0, y), Anchor::Start, NAME);
            y += LINE;
        }
        y += BETWEEN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_few_and_within() {
        for (from, to) in [(4.0, 5.5), (5.2, 5.9), (4.1, 6.9)] {
            let ticks = ticks([from, to]);
            assert!((2..=6).contains(&ticks.len()), "{from} {to} {ticks:?}");
            assert!(ticks.iter().all(|bytes| (from..=to).contains(&bytes.log10())));
        }
        assert_eq!([500.0, 20e3, 5e6].map(short_bytes), ["500 B", "20 kB", "5 MB"]);
    }

    #[test]
    fn steps_are_round() {
        for (range, step) in [(5.0, 1.0), (1.4, 0.5), (16.0, 5.0)] {
            assert!((nice_step(range) - step).abs() < 1e-9, "{range}: {}", nice_step(range));
        }
    }

    /// What a reader looks for is there, and the saving is that of the bytes.
    #[test]
    fn a_panel_names_its_points() {
        let width = |bits, bytes, accuracy| Width { bits, bytes, accuracy };
        let panel = Panel {
            float: Some(99.4),
            widths: vec![width(1, 70e3, 98.2), width(2, 120e3, 99.2), width(4, 160e3, 99.3)],
            baseline: Some((4, 640e3)),
            ..Panel::of("mnist-minionn")
        };
        let svg = draw(&[panel]);
        for text in ["MNIST, MiniONN", ">w1<", ">w2<", ">w4<", "w4 saves 75 %", "SPU 4.06 MB", "float 99.40 %"] {
            assert!(svg.contains(text), "{text} is missing:\n{svg}");
        }
        assert!(!svg.contains("nothing trained"), "{svg}");
    }

    /// Networks that were made cheaper are a line of their own, with a line of the key, and the axes reach them.
    #[test]
    fn a_panel_has_the_networks_that_were_made_cheaper() {
        let widths = vec![Width { bits: 4, bytes: 4e6, accuracy: 89.0 }, Width { bits: 8, bytes: 8e6, accuracy: 89.5 }];
        let cheaper =
            vec![(Way::Trained, vec![Cheaper { bytes: 1e6, accuracy: 80.0 }, Cheaper { bytes: 2e6, accuracy: 88.0 }])];
        let panel = Panel { widths, cheaper, peer: None, ..Panel::of("cifar10-resnet20") };
        let least = Scaled::new(&panel, (0.0, 0.0)).at(1e6, 80.0);
        let frame = Scaled::new(&panel, (0.0, 0.0)).frame;
        assert!(least.0 > frame.left && least.1 < frame.bottom, "{least:?} {frame:?}");
        let svg = draw(&[panel]);
        assert!(svg.contains("fine-tuned with") && !svg.contains("nothing trained"), "{svg}");
        assert!(svg.contains(&format!("stroke=\"{}\" stroke-width=\"1.5\"", INK.0)), "{svg}");
    }
}
