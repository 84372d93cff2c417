//! A line of cells for each network: the linear layers in their order, with the parameters that each has.

use super::svg::{Anchor, At, Canvas, Colour, GREY, INK, Ink, MINT, PALE, ROSE, SAND, SKY};

/// Networks of one architecture.
pub struct Group {
    pub title: String,
    pub rows: Vec<Row>,
}

/// A network.
pub struct Row {
    pub name: String,
    pub cells: Vec<Cell>,
}

/// A linear layer.
#[derive(Clone, Copy)]
pub struct Cell {
    /// Of its sums.
    pub accumulator_bits: Option<u32>,
    /// log2 of the torus, and the degree.
    pub set: Option<(u32, usize)>,
}

/// Parameter sets and their colours.
const SETS: [((u32, usize), Colour); 4] =
    [((32, 1024), MINT), ((32, 2048), SKY), ((64, 2048), SAND), ((64, 4096), ROSE)];

const WIDTH: f64 = 948.0;
const NAMES: f64 = 110.0;
const LINE: f64 = 22.0;
const HEADING: f64 = 28.0;
const TOP: f64 = 98.0;

/// Draws them: an SVG file.
pub fn draw(groups: &[Group]) -> String {
    let rows: usize = groups.iter().map(|group| group.rows.len()).sum();
    let height = TOP + HEADING * groups.len() as f64 + LINE * rows as f64 + 16.0;
    let title = "What each layer needs";
    let mut canvas = Canvas::new(WIDTH, height, title);
    canvas.text(title, (16.0, 24.0), Anchor::Start, Ink::new(19.0, INK).bold());
    let words = "a cell for each linear layer, in order; in it the bits of its sums, its colour the lattice parameters";
    canvas.text(words, (16.0, 47.0), Anchor::Start, Ink::new(13.0, GREY));
    key(&mut canvas, (16.0, 76.0));
    let columns = groups.iter().flat_map(|group| &group.rows).map(|row| row.cells.len()).max().unwrap_or(0).max(1);
    // Few layers make no banners.
    let wide = ((WIDTH - NAMES - 16.0) / columns as f64).min(120.0);
    let mut y = TOP;
    for group in groups {
        canvas.text(&group.title, (16.0, y + HEADING / 2.0 + 2.0), Anchor::Start, Ink::new(13.0, INK).bold());
        y += HEADING;
        for row in &group.rows {
            let middle = y + LINE / 2.0;
            canvas.text(&row.name, (NAMES - 8.0, middle), Anchor::End, Ink::new(13.0, INK));
            for (column, cell) in row.cells.iter().enumerate() {
                let x = NAMES + wide * column as f64;
                canvas.bar((x + 1.0, y + 1.0), (x + wide - 1.0, y + LINE - 1.0), colour(cell.set));
                if let Some(bits) = cell.accumulator_bits {
                    canvas.text(&bits.to_string(), (x + wide / 2.0, middle), Anchor::Middle, Ink::new(12.0, INK));
                }
            }
            y += LINE;
        }
    }
    canvas.svg()
}

/// Pale where nothing is encrypted, or by a set that has no colour.
fn colour(set: Option<(u32, usize)>) -> Colour {
    set.and_then(|set| SETS.iter().find(|(known, _)| *known == set)).map_or(PALE, |(_, colour)| *colour)
}

fn key(canvas: &mut Canvas, (mut x, y): At) {
    let ink = Ink::new(13.0, INK);
    for ((torus, degree), colour) in SETS {
        let name = format!("torus 2^{torus}, N = {degree}");
        canvas.bar((x, y - 7.0), (x + 14.0, y + 7.0), colour);
        canvas.text(&name, (x + 20.0, y), Anchor::Start, ink);
        x += 20.0 + ink.width(&name) + 28.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_has_the_colour_of_its_set() {
        let cell = |bits, set| Cell { accumulator_bits: Some(bits), set };
        let cells = vec![cell(9, Some((32, 1024))), cell(17, Some((64, 4096))), cell(77, None)];
        let groups = [Group { title: "A".to_owned(), rows: vec![Row { name: "w1".to_owned(), cells }] }];
        let svg = draw(&groups);
        let at = |text: &str| svg.lines().position(|line| line.contains(text)).expect("it is drawn");
        for (bits, colour) in [(">9<", MINT), (">17<", ROSE), (">77<", PALE)] {
            // A cell is drawn before its number.
            assert!(svg.lines().nth(at(bits) - 1).unwrap().contains(colour.0), "{bits}:\n{svg}");
        }
    }
}
