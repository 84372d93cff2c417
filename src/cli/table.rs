//! Tables that fit the terminal: what does not fit is left out, column by column in a stated order, and that is said.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, presets};

use super::terminal::{Paint, colours, paint, width};

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    title: &'static str,
    right: bool,
    /// 0 stays; of the others the lowest is left out first.
    drop: u8,
}

/// A column of text that is always there.
pub const fn text(title: &'static str) -> Column {
    Column { title, right: false, drop: 0 }
}

/// A column of numbers that is always there.
pub const fn number(title: &'static str) -> Column {
    Column { title, right: true, drop: 0 }
}

impl Column {
    /// Left out where there is no room, in this order.
    pub const fn drop(self, order: u8) -> Self {
        Self { drop: order, ..self }
    }
}

/// Rows under titles.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<(Vec<String>, Option<Paint>)>,
}

/// Blanks between columns.
const GAP: u16 = 2;

impl Table {
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// A row: one cell per column.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.painted(cells, None);
    }

    /// A row that stands out.
    pub fn painted<const N: usize>(&mut self, cells: [String; N], paint: Option<Paint>) {
        assert_eq!(N, self.columns.len(), "one cell per column");
        self.rows.push((cells.into(), paint));
    }

    /// As wide as the terminal, in its colours.
    pub fn for_terminal(&self) -> String {
        self.fitted(width(), colours())
    }

    /// All columns, without colours: for a file.
    pub fn whole(&self) -> String {
        self.fitted(usize::from(u16::MAX), false)
    }

    /// The table in lines of at most `width` characters; a column without anything in it is left out.
    pub fn fitted(&self, width: usize, colours: bool) -> String {
        let width = u16::try_from(width).unwrap_or(u16::MAX);
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(self.columns.iter().map(|column| column.title));
        table.add_rows(self.rows.iter().map(|(cells, _)| cells));
        for (column, own) in table.column_iter_mut().zip(&self.columns) {
            column.set_padding((0, GAP));
            column.set_cell_alignment(if own.right { CellAlignment::Right } else { CellAlignment::Left });
        }
        let widths = table.column_max_content_widths();
        let mut shown: Vec<usize> = (0..self.columns.len())
            .filter(|&column| self.rows.is_empty() || self.rows.iter().any(|(cells, _)| !cells[column].is_empty()))
            .collect();
        let mut left_out = Vec::new();
        let wide = |shown: &[usize]| {
            shown.iter().map(|&column| widths[column].saturating_add(GAP)).fold(0, u16::saturating_add)
        };
        while wide(&shown) > width.saturating_add(GAP) {
            let first = shown.iter().copied().filter(|&column| self.columns[column].drop > 0);
            let Some(next) = first.min_by_key(|&column| self.columns[column].drop) else { break };
            shown.retain(|&column| column != next);
            left_out.push(self.columns[next].title);
        }
        for index in (0..self.columns.len()).filter(|index| !shown.contains(index)) {
            table.column_mut(index).expect("it was made").set_constraint(ColumnConstraint::Hidden);
        }
        if let Some(last) = shown.last() {
            table.column_mut(*last).expect("it was made").set_padding((0, 0));
        }
        let mut text = self.paint(&table.trim_fmt(), colours);
        if !left_out.is_empty() {
            let note = format!("no room for: {}; a wider terminal or --json shows them", left_out.join(", "));
            for line in wrapped(&note, usize::from(width)) {
                text += "\n";
                text += &paint(&line, Paint::Faint, colours);
            }
        }
        text
    }

    /// The titles in bold, and each row's own colour where no cell takes several lines.
    fn paint(&self, text: &str, colours: bool) -> String {
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let whole = lines.len() == self.rows.len() + 1;
        let painted = lines.iter().enumerate().map(|(index, line)| match index {
            0 => paint(line, Paint::Bold, colours),
            _ => match self.rows.get(index - 1).and_then(|row| row.1).filter(|_| whole) {
                Some(own) => paint(line, own, colours),
                None => (*line).to_owned(),
            },
        });
        painted.collect::<Vec<_>>().join("\n")
    }
}

/// Words in lines of at most `width` characters.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[text("layer"), number("sums").drop(2), number("noise").drop(1), number("bytes")]);
        table.row(["conv1", "9 bits", "93 %", "1.2 kB"].map(str::to_owned));
        table.painted(["a layer with a longer name", "11 bits", "", "22.7 kB"].map(str::to_owned), Some(Paint::Red));
        table
    }

    #[test]
    fn columns_are_left_out_in_order_and_named() {
        let wide = table().fitted(80, false);
        let lines: Vec<&str> = wide.lines().collect();
        assert_eq!(lines[0], format!("{:<26}  {:>7}  {:>5}  {:>7}", "layer", "sums", "noise", "bytes"));
        assert_eq!(lines[1], format!("{:<26}  {:>7}  {:>5}  {:>7}", "conv1", "9 bits", "93 %", "1.2 kB"));
        assert_eq!(lines.len(), 3);
        let narrower = table().fitted(47, false);
        assert!(narrower.contains("sums") && narrower.contains("no room for: noise; a wider"), "{narrower}");
        let narrow = table().fitted(40, false);
        assert!(narrow.contains("no room for: noise, sums; a wider"), "{narrow}");
        for (text, width) in [(&wide, 80), (&narrower, 47), (&narrow, 40), (&table().fitted(20, false), 20)] {
            assert!(text.lines().all(|line| line.len() <= width), "{width}:\n{text}");
        }
    }

    #[test]
    fn a_column_without_anything_is_not_there() {
        let mut table = Table::new(&[text("layer"), number("flights")]);
        table.row(["conv1", ""].map(str::to_owned));
        assert_eq!(table.fitted(80, false), "layer\nconv1");
    }

    #[test]
    fn colours_are_for_terminals() {
        assert!(!table().fitted(80, false).contains('\x1b'));
        let coloured = table().fitted(80, true);
        assert!(coloured.starts_with("\x1b[1mlayer") && coloured.contains("\x1b[31ma layer"), "{coloured:?}");
    }
}
