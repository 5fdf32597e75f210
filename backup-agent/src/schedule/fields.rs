//! The five fields of a schedule, as sets of numbers.
//!
//! They are read here, in full, rather than handed on as text: the crate below reads some of them otherwise than cron does
//! (`1` is Sunday, `5/15` runs to the end), and only numbers are beyond misreading.

use std::collections::BTreeSet;

use super::ScheduleError;

/// One field: which numbers match, and whether it began with a `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) matches: BTreeSet<u8>,
    /// A field that begins with `*` does not restrict the day, as far as *or* is concerned.
    pub(super) star: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) minute: Field,
    pub(super) hour: Field,
    pub(super) day: Field,
    pub(super) month: Field,
    /// 0 is Sunday, 6 is Saturday.
    pub(super) weekday: Field,
}

struct Kind {
    name: &'static str,
    lowest: u8,
    highest: u8,
    words: &'static [&'static str],
}

const MINUTE: Kind = Kind { name: "minute", lowest: 0, highest: 59, words: &[] };
const HOUR: Kind = Kind { name: "hour", lowest: 0, highest: 23, words: &[] };
const DAY: Kind = Kind { name: "day of the month", lowest: 1, highest: 31, words: &[] };
const MONTH: Kind = Kind {
    name: "month",
    lowest: 1,
    highest: 12,
    words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Kind = Kind {
    name: "day of the week",
    lowest: 0,
    highest: 7,
    words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Fields {
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let written = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            word if word.starts_with('@') => return Err(ScheduleError::Word { text: text.to_owned() }),
            fields => fields,
        };
        let fields: Vec<&str> = written.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(ScheduleError::Fields { text: text.to_owned(), found: fields.len() });
        };
        let mut weekday = WEEKDAY.read(weekday)?;
        if weekday.matches.remove(&7) {
            weekday.matches.insert(0);
        }
        Ok(Self {
            minute: MINUTE.read(minute)?,
            hour: HOUR.read(hour)?,
            day: DAY.read(day)?,
            month: MONTH.read(month)?,
            weekday,
        })
    }
}

impl Kind {
    fn read(&self, given: &str) -> Result<Field, ScheduleError> {
        let wrong =
            |reason: String| ScheduleError::Field { field: self.name, given: given.to_owned(), reason };
        let mut matches = BTreeSet::new();
        for item in given.split(',') {
            let (range, step) = match item.split_once('/') {
                None => (item, None),
                Some((range, step)) => {
                    let step = step.parse::<u8>().ok().filter(|step| *step > 0);
                    (range, Some(step.ok_or_else(|| wrong("a step is a number above 0".into()))?))
                }
            };
            let (from, to) = match (range, range.split_once('-')) {
                ("*", _) => (self.lowest, self.highest),
                (_, Some((from, to))) => (self.number(from, given)?, self.number(to, given)?),
                (_, None) if step.is_some() => {
                    return Err(wrong(format!(
                        "a step needs a range before it, like */{0} or 10-40/{0}",
                        step.unwrap_or(1)
                    )));
                }
                (one, None) => (self.number(one, given)?, self.number(one, given)?),
            };
            if from > to {
                return Err(wrong(format!("the range {range} runs backwards")));
            }
            matches.extend((from..=to).step_by(usize::from(step.unwrap_or(1))));
        }
        // `*` of the weekdays is 0-7, where 7 is 0 once more; with a step it would add a Sunday that nobody meant.
        if self.highest == 7 && given.starts_with("*/") {
            matches.remove(&7);
        }
        Ok(Field { matches, star: given.starts_with('*') })
    }

    fn number(&self, text: &str, given: &str) -> Result<u8, ScheduleError> {
        let word = text.to_ascii_lowercase();
        if let Some(at) = self.words.iter().position(|known| *known == word) {
            return Ok(u8::try_from(at).expect("there are at most twelve words") + self.lowest);
        }
        text.parse::<u8>().ok().filter(|number| (self.lowest..=self.highest).contains(number)).ok_or_else(
            || {
                let names = match self.words {
                    [] => String::new(),
                    [first, .., last] => format!(", or {first} to {last}"),
                    [only] => format!(", or {only}"),
                };
                ScheduleError::Field {
                    field: self.name,
                    given: given.to_owned(),
                    reason: format!(
                        "{text:?} is not a number from {} to {}{names}",
                        self.lowest, self.highest
                    ),
                }
            },
        )
    }
}
