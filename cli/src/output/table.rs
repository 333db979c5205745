//! One table for everything: typed cells in named columns.
//!
//! Owns [`Table`] and how it looks to people, aligned or (for screen readers) as plain lines. Programs get
//! the same cells raw through `formats.rs`.

use arw_kit::moment::WallTime;
use comfy_table::presets;
use comfy_table::{CellAlignment, Color, ColumnConstraint, ContentArrangement};

use super::human;
use super::style::{Style, Tone};

/// A value in a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Missing,
    Text(String),
    /// A word with a meaning, for example a state.
    Word(String, Tone),
    Count(u64),
    Bytes(u64),
    Millis(u64),
    /// An RFC 3339 time.
    Time(String),
    Flag(bool),
    /// Words about something at a time: for people with the time, for programs without.
    Dated(String, String),
}

/// Who sees a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    Everyone,
    People,
    Programs,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// For programs, unit last: `size_bytes`.
    pub(crate) key: &'static str,
    /// For people: `size`.
    pub(crate) title: &'static str,
    pub(crate) audience: Audience,
    /// Left out where the terminal is too narrow for everything.
    yields: bool,
    /// Free text that may be broken into lines; other columns keep their words whole.
    wraps: bool,
}

impl Column {
    pub(crate) const fn new(key: &'static str, title: &'static str) -> Self {
        Self { key, title, audience: Audience::Everyone, yields: false, wraps: false }
    }

    pub(crate) const fn people(title: &'static str) -> Self {
        Self { audience: Audience::People, ..Self::new(title, title) }
    }

    pub(crate) const fn programs(key: &'static str) -> Self {
        Self { audience: Audience::Programs, ..Self::new(key, key) }
    }

    pub(crate) const fn yielding(self) -> Self {
        Self { yields: true, ..self }
    }

    pub(crate) const fn wrapping(self) -> Self {
        Self { wraps: true, ..self }
    }
}

/// Narrower than this, wrapped text is a column of syllables.
const WRAPPED_WIDTH_MIN: usize = 16;

/// Rows of cells in columns; each row has one cell per column.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.columns.len(), "a row has one cell per column");
        self.rows.push(row);
    }

    /// For people: aligned columns, as wide as the terminal; plain lines where the style is accessible.
    pub(crate) fn text(&self, style: &Style, now: WallTime) -> String {
        if style.accessible { self.plain_lines(now) } else { self.aligned(style, now) }
    }

    fn shown(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns.iter().enumerate().filter(|(_, column)| column.audience != Audience::Programs)
    }

    fn aligned(&self, style: &Style, now: WallTime) -> String {
        let width = style.terminal_size().map(|(width, _)| width);
        let (columns, fits) = self.fitting(width.map(usize::from), now);
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        match width {
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        if style.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(columns.iter().map(|index| {
            let title = comfy_table::Cell::new(self.columns[*index].title.to_uppercase());
            if self.is_numeric(*index) { title.set_alignment(CellAlignment::Right) } else { title }
        }));
        for row in &self.rows {
            table.add_row(columns.iter().filter_map(|index| row.get(*index).map(|cell| drawn(cell, now))));
        }
        for (place, index) in columns.iter().enumerate() {
            let Some(column) = table.column_mut(place) else { continue };
            // The first column starts at the edge, as `ls` and `ps` do.
            if place == 0 {
                column.set_padding((0, 1));
            }
            if fits && !self.columns[*index].wraps {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        let mut text = table.trim_fmt();
        text.push('\n');
        text
    }

    /// The columns that are drawn: all of them, or without those that yield where the terminal is too narrow;
    /// and whether they fit then without breaking words.
    fn fitting(&self, width: Option<usize>, now: WallTime) -> (Vec<usize>, bool) {
        let mut columns: Vec<usize> = self.shown().map(|(index, _)| index).collect();
        let Some(width) = width else { return (columns, true) };
        while columns.iter().map(|index| self.least_width(*index, now)).sum::<usize>() > width {
            // The last one that yields goes first.
            let Some(place) = columns.iter().rposition(|index| self.columns[*index].yields) else {
                return (columns, false);
            };
            columns.remove(place);
        }
        (columns, true)
    }

    /// With the space to its neighbours.
    fn least_width(&self, index: usize, now: WallTime) -> usize {
        const SPACES: usize = 2;
        let column = &self.columns[index];
        let title = column.title.len();
        if column.wraps {
            return title.max(WRAPPED_WIDTH_MIN) + SPACES;
        }
        let cells = self.rows.iter().filter_map(|row| row.get(index));
        cells.map(|cell| cell_text(cell, now).chars().count()).chain([title]).max().unwrap_or_default()
            + SPACES
    }

    fn plain_lines(&self, now: WallTime) -> String {
        let mut text = String::new();
        for row in &self.rows {
            for (place, (index, column)) in self.shown().enumerate() {
                let Some(cell) = row.get(index) else { continue };
                let value = cell_text(cell, now);
                let indent = if place == 0 { "" } else { "  " };
                text.push_str(&format!("{indent}{}: {}\n", column.title, value.trim_start()));
            }
        }
        text
    }

    fn is_numeric(&self, index: usize) -> bool {
        let mut cells =
            self.rows.iter().filter_map(|row| row.get(index)).filter(|cell| **cell != Cell::Missing);
        cells.next().is_some_and(|cell| matches!(cell, Cell::Count(_) | Cell::Bytes(_) | Cell::Millis(_)))
    }
}

fn drawn(cell: &Cell, now: WallTime) -> comfy_table::Cell {
    let drawn = comfy_table::Cell::new(cell_text(cell, now));
    match cell {
        Cell::Count(_) | Cell::Bytes(_) | Cell::Millis(_) => drawn.set_alignment(CellAlignment::Right),
        Cell::Word(_, Tone::Good) => drawn.fg(Color::Green),
        Cell::Word(_, Tone::Notice) => drawn.fg(Color::Cyan),
        Cell::Word(_, Tone::Warning) => drawn.fg(Color::Yellow),
        Cell::Word(_, Tone::Bad) => drawn.fg(Color::Red),
        Cell::Word(_, Tone::Faint) | Cell::Missing => drawn.fg(Color::DarkGrey),
        Cell::Word(_, Tone::Plain) | Cell::Text(_) | Cell::Time(_) | Cell::Flag(_) | Cell::Dated(..) => drawn,
    }
}

/// A cell in words.
pub(crate) fn cell_text(cell: &Cell, now: WallTime) -> String {
    match cell {
        Cell::Missing => "-".to_owned(),
        Cell::Text(text) | Cell::Word(text, _) => human::one_line(text),
        Cell::Count(number) => human::count(*number),
        Cell::Bytes(count) => human::bytes(*count),
        Cell::Millis(ms) => human::span_ms(*ms),
        Cell::Time(at) => human::ago(at, now),
        Cell::Dated(words, at) => format!("{} {}", human::one_line(words), human::ago(at, now)),
        Cell::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&[
            Column::new("name", "name"),
            Column::new("size_bytes", "size"),
            Column::programs("sha256"),
            Column::new("imported_at", "imported"),
        ]);
        let time = |text: &str| Cell::Time(text.to_owned());
        table.push(vec![
            Cell::Text("a".to_owned()),
            Cell::Bytes(98_000_000),
            Cell::Text("ff".to_owned()),
            time("2026-11-24T11:59:57Z"),
        ]);
        table.push(vec![Cell::Text("long name".to_owned()), Cell::Bytes(5), Cell::Missing, Cell::Missing]);
        table
    }

    fn now() -> WallTime {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let text = sample().text(&Style::PLAIN, now());
        assert_eq!(text, "NAME        SIZE  IMPORTED\na          98 MB  3 s ago\nlong name    5 B  -\n");
    }

    #[test]
    fn a_narrow_terminal_loses_columns_that_yield_and_nothing_else() {
        let mut table = sample();
        assert_eq!(table.fitting(Some(20), now()), (vec![0, 1, 3], false), "nothing yields");
        table.columns[1] = table.columns[1].yielding();
        assert_eq!(table.fitting(Some(28), now()), (vec![0, 1, 3], true));
        assert_eq!(table.fitting(Some(27), now()), (vec![0, 3], true));
        assert_eq!(table.fitting(None, now()), (vec![0, 1, 3], true));
    }

    #[test]
    fn for_a_screen_reader_every_value_has_its_name() {
        let style = Style { accessible: true, ..Style::PLAIN };
        let text = sample().text(&style, now());
        assert_eq!(
            text,
            "name: a\n  size: 98 MB\n  imported: 3 s ago\nname: long name\n  size: 5 B\n  imported: -\n"
        );
    }

    #[test]
    fn a_cell_cannot_drive_the_terminal() {
        assert_eq!(cell_text(&Cell::Text("a\u{1b}[0m\nb".to_owned()), now()), "a?[0m b");
    }
}
