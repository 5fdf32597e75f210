//! The console itself: what a command is handed to speak with.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Map, Value, json};
use strongroom_model::{Failure, chain};

use crate::confirm::ask;
use crate::sink::{Captured, LogWriter, Sink, lock};
use crate::{Exit, Failed, Output, Progress, Terminal, Text, plain};

/// The version of the JSON objects. It rises when a field changes its meaning or goes away, not when one is added.
const JSON_VERSION: u32 = 1;

/// Speaks for one command. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Console {
    output: Output,
    terminal: Arc<Terminal>,
    sink: Arc<Sink>,
    command: Arc<str>,
}

impl Console {
    /// A console on the process's own streams.
    #[must_use]
    pub fn new(output: Output, terminal: Terminal) -> Self {
        Self { output, terminal: Arc::new(terminal), sink: Arc::new(Sink::process()), command: "".into() }
    }

    /// A console whose words are kept, for tests of commands.
    #[must_use]
    pub fn captured(output: Output) -> (Self, Captured) {
        let captured = Captured::default();
        let sink = Arc::new(Sink::memory(&captured));
        (Self { output, terminal: Arc::new(Terminal::none()), sink, command: "test".into() }, captured)
    }

    /// The same console, speaking for `command`: the words of the command line, such as `volume create`.
    #[must_use]
    pub fn named(&self, command: &str) -> Self {
        Self { command: command.into(), ..self.clone() }
    }

    /// In which form results are given.
    #[must_use]
    pub const fn output(&self) -> Output {
        self.output
    }

    /// The zone in which times are shown to people.
    #[must_use]
    pub fn time_zone(&self) -> &TimeZone {
        &self.terminal.time_zone
    }

    /// What is known about the surroundings.
    #[must_use]
    pub fn terminal(&self) -> &Terminal {
        &self.terminal
    }

    /// Says the result: `value` as the last JSON object, or what `text` writes. To be called once, at the end.
    ///
    /// A `value` that is not a struct or a map is put under the name `value`.
    pub fn result<T: Serialize + ?Sized>(&self, value: &T, text: impl FnOnce(&mut Text)) {
        match self.output {
            Output::Json => self.object("result", to_fields(value)),
            Output::Text => {
                let mut page = Text::new(&self.terminal);
                text(&mut page);
                self.sink.stdout(page.finish().as_bytes());
            }
        }
    }

    /// Prints a part of a long answer as it is found, in text form only: a list that has no end in memory. With JSON nothing is
    /// printed; the result carries it.
    pub fn part(&self, text: &str) {
        if self.output == Output::Text {
            self.sink.stdout(plain(text).as_bytes());
        }
    }

    /// Says something on the way, for the person who watches. On standard error, in both forms.
    pub fn talk(&self, text: impl Display) {
        self.sink.stderr(format!("{}\n", plain(&text.to_string())).as_bytes());
    }

    /// Says something on the way that the person should not miss.
    pub fn warn(&self, text: impl Display) {
        let mark = if self.bold_on_stderr() { "\u{1b}[1;33mwarning:\u{1b}[0m" } else { "warning:" };
        self.sink.stderr(format!("{mark} {}\n", plain(&text.to_string())).as_bytes());
    }

    /// Begins to report progress: a bar on a terminal or JSON objects, from the first second on; otherwise nothing.
    ///
    /// `total_bytes` may be unknown, and may be corrected later.
    #[must_use]
    pub fn progress(&self, label: &str, total_bytes: Option<u64>) -> Progress {
        Progress::begin(self, label, total_bytes)
    }

    /// Asks a person to agree to what has just been shown. `yes` is their `--yes`.
    ///
    /// # Errors
    /// [`crate::ConfirmError`] with [`Exit::NotConfirmed`] when they do not agree, or nobody is there to be asked.
    pub fn confirm(&self, question: &str, yes: bool) -> Result<(), Failed> {
        ask(self, question, yes, &mut io::stdin().lock())
            .map_err(|refusal| Failed::with_exit(refusal, Exit::NotConfirmed))
    }

    /// Says why the command failed, and answers what the shell is to be told.
    ///
    /// The text form goes to standard error in both output forms; with JSON an object `"type":"error"` takes the place of
    /// the result on standard output.
    pub fn fail(&self, failed: &Failed) -> Exit {
        let exit = failed.exit();
        self.say_failure(failed.failure(), exit);
        exit
    }

    fn say_failure(&self, failure: &dyn Failure, exit: Exit) {
        let message = chain(failure);
        if self.output == Output::Json {
            let fields = json!({
                "code": failure.code(),
                "message": message,
                "remedy": failure.remedy(),
                "advice": failure.advice(),
                "exit": exit.code(),
            });
            self.object("error", into_map(fields));
        }
        let mark = if self.bold_on_stderr() { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
        let text = format!(
            "{mark} {}\n  code: {}\n  next: {}\n",
            plain(&message),
            failure.code(),
            plain(&failure.advice())
        );
        self.sink.stderr(text.as_bytes());
    }

    /// Turns the answer of a command into what the program ends with.
    ///
    /// A reader that closed the pipe is not a failure; a result that could not be written for another reason is.
    #[must_use]
    pub fn close(&self, exit: Exit) -> Exit {
        let broken = lock(&self.sink.broken).take();
        match broken {
            Some(cause) => {
                self.sink.stderr(
                    format!("error: the result could not be written to standard output: {cause}\n")
                        .as_bytes(),
                );
                if exit == Exit::Done { Exit::FAILED } else { exit }
            }
            None => exit,
        }
    }

    /// The reader of standard output went away: a command that only prints may stop.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sink.closed.load(Ordering::Relaxed)
    }

    /// A writer for log lines, which go to standard error above a progress bar.
    #[must_use]
    pub fn log_writer(&self) -> LogWriter {
        LogWriter(Arc::clone(&self.sink))
    }

    /// Prints one JSON object on a line of its own, the common fields first.
    pub(crate) fn object(&self, kind: &str, fields: Map<String, Value>) {
        let mut line = format!(
            "{{\"type\":{},\"version\":{JSON_VERSION},\"command\":{}",
            Value::from(kind),
            Value::from(&*self.command)
        );
        for (name, value) in fields {
            line.push_str(&format!(",{}:{value}", Value::from(name)));
        }
        line.push_str("}\n");
        self.sink.stdout(line.as_bytes());
    }

    pub(crate) fn bars(&self) -> &indicatif::MultiProgress {
        &self.sink.bars
    }

    pub(crate) fn ask_on_stderr(&self, text: &str) {
        self.sink.stderr(plain(text).as_bytes());
    }

    fn bold_on_stderr(&self) -> bool {
        self.terminal.stderr && self.terminal.color
    }
}

fn to_fields<T: Serialize + ?Sized>(value: &T) -> Map<String, Value> {
    // Serialising plain data fails only for maps whose keys are not text, which a result must not have.
    into_map(serde_json::to_value(value).expect("a result is plain data with text keys"))
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}

#[cfg(test)]
mod tests;
