//! Horizontal bars: a line for each network, in groups, and a column for each thing that is compared.

use super::svg::{Anchor, Canvas, Colour, GREY, INK, Ink, PALE};

/// A card of bars.
pub struct Chart {
    pub title: String,
    /// How to read it.
    pub lines: Vec<String>,
    /// What the colours of a bar's parts mean, from the left.
    pub parts: Vec<(&'static str, Colour)>,
    pub columns: Vec<Column>,
    pub groups: Vec<Group>,
}

/// What is compared.
pub struct Column {
    pub title: String,
    /// Of its numbers.
    pub show: fn(f64) -> String,
}

/// Networks of one architecture.
pub struct Group {
    pub title: String,
    pub rows: Vec<Row>,
}

/// A network: a bar in each column.
pub struct Row {
    pub name: String,
    pub bars: Vec<Bar>,
}

/// Parts on end, and how far the end reaches in the middle half of the runs.
pub struct Bar {
    pub parts: Vec<f64>,
    pub whisker: Option<[f64; 2]>,
}

impl Bar {
    fn end(&self) -> f64 {
        self.parts.iter().sum()
    }

    /// The rightmost thing that is drawn.
    fn reach(&self) -> f64 {
        self.whisker.map_or(self.end(), |[_, to]| to.max(self.end()))
    }
}

const WIDTH: f64 = 948.0;
const NAMES: f64 = 110.0;
const LINE: f64 = 20.0;
const HEADING: f64 = 28.0;
/// For the number behind a bar.
const NUMBER: f64 = 64.0;

/// Draws it: an SVG file.
pub fn draw(chart: &Chart) -> String {
    let top = 46.0 + 20.0 * chart.lines.len() as f64 + 52.0;
    let rows: usize = chart.groups.iter().map(|group| group.rows.len()).sum();
    let height = top + HEADING * chart.groups.len() as f64 + LINE * rows as f64 + 16.0;
    let mut canvas = Canvas::new(WIDTH, height, &chart.title);
    canvas.text(&chart.title, (16.0, 24.0), Anchor::Start, Ink::new(19.0, INK).bold());
    for (index, line) in chart.lines.iter().enumerate() {
        canvas.text(line, (16.0, 47.0 + 20.0 * index as f64), Anchor::Start, Ink::new(13.0, GREY));
    }
    key(&mut canvas, chart, top - 42.0);

    let wide = (WIDTH - NAMES - 24.0) / chart.columns.len() as f64;
    let left = |column: usize| NAMES + wide * column as f64;
    let most: Vec<f64> = (0..chart.columns.len())
        .map(|column| {
            let reaches = chart.groups.iter().flat_map(|group| &group.rows).map(|row| row.bars[column].reach());
            reaches.fold(f64::MIN_POSITIVE, f64::max)
        })
        .collect();
    let mut y = top;
    for (index, column) in chart.columns.iter().enumerate() {
        canvas.text(&column.title, (left(index), y - 10.0), Anchor::Start, Ink::new(14.0, INK).bold());
    }
    for group in &chart.groups {
        canvas.text(&group.title, (16.0, y + HEADING / 2.0 + 2.0), Anchor::Start, Ink::new(13.0, INK).bold());
        y += HEADING;
        for column in 0..chart.columns.len() {
            canvas.line((left(column), y), (left(column), y + LINE * group.rows.len() as f64), PALE, 1.0);
        }
        for row in &group.rows {
            let middle = y + LINE / 2.0;
            canvas.text(&row.name, (NAMES - 8.0, middle), Anchor::End, Ink::new(13.0, INK));
            for (index, (bar, column)) in row.bars.iter().zip(&chart.columns).enumerate() {
                let scale = (wide - NUMBER - 16.0) / most[index];
                one(&mut canvas, chart, bar, (left(index), middle), scale, &(column.show)(bar.end()));
            }
            y += LINE;
        }
    }
    canvas.svg()
}

/// A bar from `x` at the height `y`, and its number.
fn one(canvas: &mut Canvas, chart: &Chart, bar: &Bar, (x, y): (f64, f64), scale: f64, number: &str) {
    let mut from = x;
    for (part, (_, colour)) in bar.parts.iter().zip(&chart.parts) {
        let to = from + part * scale;
        if *part > 0.0 {
            canvas.bar((from, y - 6.5), (to, y + 6.5), *colour);
        }
        from = to;
    }
    if let Some([low, high]) = bar.whisker {
        let [low, high] = [low, high].map(|end| x + end * scale);
        canvas.line((low, y), (high, y), INK, 1.0);
        for end in [low, high] {
            canvas.line((end, y - 3.5), (end, y + 3.5), INK, 1.0);
        }
    }
    canvas.text(number, (x + bar.reach() * scale + 5.0, y), Anchor::Start, Ink::new(12.0, INK));
}

/// What the colours mean.
fn key(canvas: &mut Canvas, chart: &Chart, y: f64) {
    let ink = Ink::new(13.0, INK);
    let mut x = 16.0;
    for (name, colour) in &chart.parts {
        canvas.bar((x, y - 6.0), (x + 12.0, y + 6.0), *colour);
        canvas.text(name, (x + 18.0, y), Anchor::Start, ink);
        x += 18.0 + ink.width(name) + 24.0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::svg::{BLUE, SKY};
    use super::*;

    #[test]
    fn the_longest_bar_has_room_for_its_number() {
        let bar = |parts: [f64; 2], whisker| Bar { parts: parts.to_vec(), whisker };
        let chart = Chart {
            title: "Bars".to_owned(),
            lines: vec!["how".to_owned()],
            parts: vec![("offline", SKY), ("online", BLUE)],
            columns: vec![Column { title: "time".to_owned(), show: |ms| format!("{ms:.0} ms") }],
            groups: vec![Group {
                title: "A".to_owned(),
                rows: vec![
                    Row { name: "w1".to_owned(), bars: vec![bar([10.0, 5.0], Some([14.0, 20.0]))] },
                    Row { name: "w2".to_owned(), bars: vec![bar([12.0, 4.0], None)] },
                ],
            }],
        };
        let svg = draw(&chart);
        let of = |text: &str| {
            let line = svg.lines().find(|line| line.contains(text)).expect("it is drawn");
            line.split("x=\"").nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap()
        };
        // The whisker of the first ends right of the second's bar, and its number behind it.
        assert!(of("15 ms") > of("16 ms") && of("15 ms") + NUMBER <= WIDTH, "{svg}");
    }
}
