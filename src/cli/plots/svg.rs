//! A white card with shapes and text, as SVG. Lengths are pixels, from the top left.

use std::fmt::Write;

/// A point.
pub type At = (f64, f64);

/// A colour, as SVG writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour(pub &'static str);

pub const INK: Colour = Colour("#202020");
pub const GREY: Colour = Colour("#6a6a6a");
pub const PALE: Colour = Colour("#e4e4e4");
pub const WHITE: Colour = Colour("#ffffff");
/// Readable for the colour-blind (Okabe and Ito).
pub const BLUE: Colour = Colour("#0072b2");
pub const SKY: Colour = Colour("#8fcbee");
pub const RED: Colour = Colour("#d55e00");
pub const GREEN: Colour = Colour("#007a5a");
pub const SAND: Colour = Colour("#f3c96b");
pub const ROSE: Colour = Colour("#eba27f");
pub const MINT: Colour = Colour("#a5dcc8");

/// Where a text lies about its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    Middle,
    /// It ends there.
    End,
}

/// Text of a size.
#[derive(Clone, Copy, Debug)]
pub struct Ink {
    pub size: f64,
    pub colour: Colour,
    pub bold: bool,
    /// White about the letters, for names that a line may cross.
    pub halo: bool,
}

impl Ink {
    pub const fn new(size: f64, colour: Colour) -> Self {
        Self { size, colour, bold: false, halo: false }
    }

    pub const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    pub const fn halo(self) -> Self {
        Self { halo: true, ..self }
    }

    /// About how wide a text will be at most: readers have different fonts.
    pub fn width(self, text: &str) -> f64 {
        let ems: f64 = text
            .chars()
            .map(|c| match c {
                'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ' ' | '\'' | '|' | '(' | ')' | '-' | 't' | 'f' => 0.36,
                'm' | 'w' | 'M' | 'W' | '%' => 0.92,
                _ if c.is_ascii_uppercase() => 0.72,
                _ => 0.63,
            })
            .sum();
        ems * self.size * if self.bold { 1.07 } else { 1.0 }
    }
}

/// What has been drawn.
pub struct Canvas {
    size: At,
    body: String,
}

impl Canvas {
    /// A white card with a name for those who do not see it.
    pub fn new(width: f64, height: f64, name: &str) -> Self {
        let mut canvas = Self { size: (width, height), body: String::new() };
        canvas.put(format_args!("<title>{}</title>", escaped(name)));
        canvas.bar((0.0, 0.0), (width, height), WHITE);
        canvas
    }

    /// The file.
    pub fn svg(self) -> String {
        let (width, height) = (number(self.size.0), number(self.size.1));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             role=\"img\" font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\">\n{}</svg>\n",
            self.body
        )
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{element}");
    }

    pub fn line(&mut self, from: At, to: At, colour: Colour, width: f64) {
        self.path(&[from, to], colour, width);
    }

    pub fn path(&mut self, points: &[At], Colour(colour): Colour, width: f64) {
        let points = joined(points);
        self.put(format_args!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{}\"/>",
            number(width)
        ));
    }

    pub fn dashes(&mut self, from: At, to: At, Colour(colour): Colour) {
        let points = joined(&[from, to]);
        self.put(format_args!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.2\" stroke-dasharray=\"5 4\"/>"
        ));
    }

    /// A filled rectangle between two corners.
    pub fn bar(&mut self, from: At, to: At, Colour(colour): Colour) {
        self.put(format_args!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{colour}\"/>",
            number(from.0),
            number(from.1),
            number(to.0 - from.0),
            number(to.1 - from.1)
        ));
    }

    /// A disc with a white rim, so that neighbours stay apart.
    pub fn disc(&mut self, at: At, Colour(colour): Colour) {
        self.put(format_args!(
            "<circle cx=\"{}\" cy=\"{}\" r=\"5\" fill=\"{colour}\" stroke=\"#ffffff\" stroke-width=\"1\"/>",
            number(at.0),
            number(at.1)
        ));
    }

    pub fn triangle(&mut self, (x, y): At, Colour(colour): Colour) {
        let points = joined(&[(x, y - 6.0), (x + 6.0, y + 5.0), (x - 6.0, y + 5.0)]);
        self.put(format_args!("<polygon points=\"{points}\" fill=\"{colour}\"/>"));
    }

    pub fn square(&mut self, (x, y): At, colour: Colour) {
        self.bar((x - 4.5, y - 4.5), (x + 4.5, y + 4.5), colour);
    }

    /// Text whose middle is at the height of its point.
    pub fn text(&mut self, text: &str, (x, y): At, anchor: Anchor, ink: Ink) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if ink.bold { " font-weight=\"bold\"" } else { "" };
        // Half the height of capitals below the middle.
        let base = y + 0.35 * ink.size;
        let (x, base, size) = (number(x), number(base), number(ink.size));
        let (Colour(colour), text) = (ink.colour, escaped(text));
        if ink.halo {
            let Colour(white) = WHITE;
            self.put(format_args!(
                "<text x=\"{x}\" y=\"{base}\" font-size=\"{size}\" fill=\"{white}\" stroke=\"{white}\" stroke-width=\"3\" \
                 text-anchor=\"{anchor}\"{weight}>{text}</text>"
            ));
        }
        self.put(format_args!(
            "<text x=\"{x}\" y=\"{base}\" font-size=\"{size}\" fill=\"{colour}\" text-anchor=\"{anchor}\"{weight}>{text}</text>"
        ));
    }
}

/// A tenth of a pixel is fine enough.
fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn joined(points: &[At]) -> String {
    let points = points.iter().map(|&(x, y)| format!("{},{}", number(x), number(y)));
    points.collect::<Vec<_>>().join(" ")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_well_formed() {
        let mut canvas = Canvas::new(100.0, 50.0, "a < b");
        canvas.path(&[(0.0, 1.04), (2.5, -0.01)], RED, 2.0);
        canvas.text("1 & 2 > 0", (10.0, 20.0), Anchor::End, Ink::new(10.0, INK).bold());
        let svg = canvas.svg();
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"100\" height=\"50\""), "{svg}");
        assert!(svg.contains("<title>a &lt; b</title>") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(svg.contains("points=\"0,1 2.5,0\""), "{svg}");
        assert!(svg.contains("y=\"23.5\"") && svg.contains(">1 &amp; 2 &gt; 0</text>"), "{svg}");
    }
}
