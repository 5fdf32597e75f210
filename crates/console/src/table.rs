//! Results for people: lines, facts and tables that fit 80 columns.

use std::fmt::{Display, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement};

use crate::{Terminal, plain};

/// A table under construction. Cells come from outside and are made harmless on the way in.
#[derive(Debug)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
    short: Vec<usize>,
}

/// So many hexadecimal digits tell any two ids of a repository apart that a person will ever see side by side.
const SHORT_DIGITS: usize = 12;

impl Table {
    /// A table with these column heads.
    #[must_use]
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self {
            header: header.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
            right: Vec::new(),
            short: Vec::new(),
        }
    }

    /// The same table with the columns of these numbers (from 0) aligned to the right, as numbers and sizes should be.
    #[must_use]
    pub fn right(mut self, columns: impl IntoIterator<Item = usize>) -> Self {
        self.right.extend(columns);
        self
    }

    /// The same table with ids in the columns of these numbers (from 0), which a terminal shows shortened. Only for ids
    /// that every command takes shortened, too.
    #[must_use]
    pub fn short(mut self, columns: impl IntoIterator<Item = usize>) -> Self {
        self.short.extend(columns);
        self
    }

    /// Adds a row.
    pub fn row<S: Display>(&mut self, cells: impl IntoIterator<Item = S>) -> &mut Self {
        self.rows.push(cells.into_iter().map(|cell| plain(&cell.to_string()).into_owned()).collect());
        self
    }

    /// There are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn render(&self, terminal: &Terminal) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING);
        let bold = terminal.stdout && terminal.color;
        if bold {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(self.header.iter().map(|head| {
            let cell = Cell::new(head);
            if bold { cell.add_attribute(Attribute::Bold) } else { cell }
        }));
        let cut = terminal.stdout && terminal.width.is_some();
        table.add_rows(self.rows.iter().map(|row| {
            row.iter().enumerate().map(move |(column, cell)| {
                Cell::new(if cut && self.short.contains(&column) { shortened(cell) } else { cell })
            })
        }));
        for (number, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if self.right.contains(&number) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        // Wrapped cells would spoil a pipe into grep, so only a terminal gets them.
        match terminal.width.filter(|_| terminal.stdout) {
            Some(width) => {
                table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// The prefix of an id and its first digits; other text as it is.
fn shortened(id: &str) -> &str {
    match id.split_once('-') {
        Some((kind, digits))
            if digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) =>
        {
            &id[..kind.len() + 1 + SHORT_DIGITS]
        }
        _ => id,
    }
}

/// The page a result is written on.
#[derive(Debug)]
pub struct Text<'a> {
    terminal: &'a Terminal,
    page: String,
}

impl<'a> Text<'a> {
    pub(crate) const fn new(terminal: &'a Terminal) -> Self {
        Self { terminal, page: String::new() }
    }

    /// A line.
    pub fn line(&mut self, text: impl Display) -> &mut Self {
        self.page.push_str(&plain(&text.to_string()));
        self.page.push('\n');
        self
    }

    /// Text of our own, with its line breaks and as it is.
    pub fn raw(&mut self, text: &str) -> &mut Self {
        self.page.push_str(text);
        self
    }

    /// An empty line.
    pub fn gap(&mut self) -> &mut Self {
        self.page.push('\n');
        self
    }

    /// A table.
    pub fn table(&mut self, table: &Table) -> &mut Self {
        self.page.push_str(&table.render(self.terminal));
        self
    }

    /// A list of facts about one thing: names on the left, values in line on the right. A value of several lines stays in
    /// its column.
    pub fn facts<N: Display, V: Display>(&mut self, facts: impl IntoIterator<Item = (N, V)>) -> &mut Self {
        let facts: Vec<(String, String)> =
            facts.into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in facts {
            let mut lines = value.lines();
            let first = lines.next().unwrap_or("");
            // Writing to a String cannot fail.
            let _ = writeln!(self.page, "{name:width$}  {}", plain(first));
            for line in lines {
                let _ = writeln!(self.page, "{:width$}  {}", "", plain(line));
            }
        }
        self
    }

    pub(crate) fn finish(self) -> String {
        self.page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Table {
        let mut table = Table::new(["NAME", "SIZE", "STATE"]).right([1]);
        table.row(["db", "1 GiB", "ready"]).row([
            "a-long-name\u{7}",
            "512 MiB",
            "a longer story about what is wrong with this volume",
        ]);
        table
    }

    #[test]
    fn in_a_pipe_a_table_has_a_row_a_line_and_no_colours() {
        let table = example();
        let text = table.render(&Terminal::none());
        assert_eq!(
            text,
            "NAME                 SIZE  STATE\n\
             db                  1 GiB  ready\n\
             a-long-name\\u{7}  512 MiB  a longer story about what is wrong with this volume\n"
        );
    }

    #[test]
    fn on_a_terminal_a_table_keeps_to_its_width() {
        let table = example();
        let text = table.render(&Terminal { stdout: true, width: Some(60), ..Terminal::none() });
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert!(text.lines().count() > 3, "{text}");
    }

    #[test]
    fn a_terminal_shows_ids_shortened_and_a_pipe_shows_them_whole() {
        let mut table = Table::new(["POINT"]).short([0]);
        table.row(["rp-00112233445566778899aabbccddeeff"]).row(["not-an-id"]);
        let on_terminal = table.render(&Terminal { stdout: true, width: Some(60), ..Terminal::none() });
        assert_eq!(on_terminal, "POINT\nrp-001122334455\nnot-an-id\n");
        assert!(table.render(&Terminal::none()).contains("rp-00112233445566778899aabbccddeeff\n"));
    }

    #[test]
    fn facts_stand_in_line() {
        let terminal = Terminal::none();
        let mut page = Text::new(&terminal);
        page.facts([("name", "db"), ("mounts", "/a\n/b")]);
        assert_eq!(page.finish(), "name    db\nmounts  /a\n        /b\n");
    }
}
