//! What a copy answers, and when a query *holds*: one convention for `--bisect`, for `db test` and for `[database.test]`.
//!
//! **A query holds when the first column of its first row is true, or a number that is not zero.** No row, NULL, false, zero and
//! any other text do not hold; nor does a query that names what is not there.

use strongroom_model::{Failure, Remedy};

/// How much of a question and its answer is told.
const MOST_TOLD: usize = 300;

/// Rows of values as the engine writes them; `None`: NULL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Answer(pub(super) Vec<Vec<Option<String>>>);

impl Answer {
    /// Whether the query holds that it answers.
    pub(super) fn holds(&self) -> bool {
        let first = self.0.first().and_then(|row| row.first()).cloned().flatten().unwrap_or_default();
        let first = first.trim();
        matches!(first, "t" | "true") || first.parse::<f64>().is_ok_and(|number| number != 0.0)
    }

    /// All of it: a line for a row, `|` between columns.
    pub(super) fn text(&self) -> String {
        let row = |row: &Vec<Option<String>>| {
            let values: Vec<&str> = row.iter().map(|value| value.as_deref().unwrap_or_default()).collect();
            values.join("|")
        };
        self.0.iter().map(row).collect::<Vec<_>>().join("\n")
    }

    /// In short, for a message.
    pub(super) fn told(&self) -> String {
        match self.0.first().map(Vec::as_slice) {
            None => "no row".to_owned(),
            Some([None]) => "NULL".to_owned(),
            Some(row) => told(&row.iter().flatten().cloned().collect::<Vec<_>>().join(", ")),
        }
    }

    /// The first column.
    pub(super) fn firsts(self) -> Vec<String> {
        self.0.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
    }
}

/// The beginning of a text.
pub(super) fn told(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(MOST_TOLD) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} …", &text[..end]),
    }
}

/// A copy does not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It does not let us in.
    #[error("logging in to the restored database as {role:?}")]
    LogIn {
        /// As whom.
        role: String,
        /// What it said.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It does not understand the question, or fails at it.
    #[error("the copy cannot answer {sql:?}")]
    Question {
        /// Which.
        sql: String,
        /// The question names a table or the like that is not there: dropped, or not made yet.
        is_missing: bool,
        /// What it said.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is asked no more.
    #[error("the program is ending")]
    Ending,
}

impl AskError {
    /// The question names what is not there.
    pub(super) const fn is_missing(&self) -> bool {
        matches!(self, Self::Question { is_missing: true, .. })
    }
}

impl Failure for AskError {
    fn code(&self) -> &'static str {
        match self {
            Self::LogIn { .. } => "database.test-role",
            Self::Question { .. } => "database.question",
            Self::Ending => "database.ending",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::LogIn { .. } | Self::Question { .. } => Remedy::FixRequest,
            Self::Ending => Remedy::Retry,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::LogIn { .. } => {
                "Say with --role, or `role` in [database.test], who is a superuser there.".into()
            }
            Self::Question { .. } => {
                "Mend the SQL; --sql-database and --role say where and as whom it is asked.".into()
            }
            Self::Ending => "Run it again.".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rows: &[&[Option<&str>]]) -> Answer {
        let row = |row: &&[Option<&str>]| row.iter().map(|value| value.map(str::to_owned)).collect();
        Answer(rows.iter().map(row).collect())
    }

    #[test]
    fn a_query_holds_by_a_first_column_that_is_true_or_a_number_that_is_not_zero() {
        for yes in ["t", "true", "1", "-3", "12.5", "7"] {
            assert!(answer(&[&[Some(yes), Some("f")], &[Some("0")]]).holds(), "{yes}");
        }
        for no in ["", "f", "false", "0", "0.0", "NULL", "yes"] {
            assert!(!answer(&[&[Some(no), Some("t")], &[Some("1")]]).holds(), "{no}");
        }
        assert!(!answer(&[]).holds() && !answer(&[&[None, Some("t")]]).holds());
    }

    #[test]
    fn an_answer_is_told_whole_or_in_short() {
        let two = answer(&[&[Some("a"), None], &[Some("b"), Some("c")]]);
        assert_eq!(two.text(), "a|\nb|c");
        assert_eq!((two.told(), answer(&[]).told()), ("a".to_owned(), "no row".to_owned()));
        assert_eq!(answer(&[&[None]]).told(), "NULL");
    }
}
