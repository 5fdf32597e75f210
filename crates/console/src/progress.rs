//! Progress of something long: a bar with rate and time left on a terminal, one JSON object a second with `--output json`,
//! otherwise silence.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::sink::lock;
use crate::{Console, Output};

/// What takes less needs no bar; and JSON objects come this often.
const PATIENCE: Duration = Duration::from_secs(1);

/// A handle to report with. Cheap to clone, usable from many threads; the bar goes away with `finish` or the last clone.
#[derive(Debug, Clone)]
pub struct Progress {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    console: Console,
    label: String,
    begun: Instant,
    show: Show,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    Bar,
    Json,
    Nothing,
}

#[derive(Debug)]
struct State {
    done_bytes: u64,
    total_bytes: Option<u64>,
    stage: String,
    told: Instant,
    bar: Option<ProgressBar>,
    finished: bool,
}

impl Progress {
    pub(crate) fn begin(console: &Console, label: &str, total_bytes: Option<u64>) -> Self {
        let show = match console.output() {
            Output::Json => Show::Json,
            Output::Text if console.terminal().stderr => Show::Bar,
            Output::Text => Show::Nothing,
        };
        let begun = Instant::now();
        let state = State {
            done_bytes: 0,
            total_bytes,
            stage: String::new(),
            told: begun,
            bar: None,
            finished: false,
        };
        let inner = Inner {
            console: console.clone(),
            label: label.to_owned(),
            begun,
            show,
            state: Mutex::new(state),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Nothing is shown anywhere: for tests and for work that nobody watches.
    #[must_use]
    pub fn silent() -> Self {
        Self::begin(&Console::captured(Output::Text).0, "", None)
    }

    /// So many more bytes are done.
    pub fn advance(&self, bytes: u64) {
        self.change(|state| state.done_bytes = state.done_bytes.saturating_add(bytes));
    }

    /// So many bytes are done in all.
    pub fn set_done(&self, bytes: u64) {
        self.change(|state| state.done_bytes = bytes);
    }

    /// The whole turns out to be this much.
    pub fn set_total(&self, bytes: u64) {
        self.change(|state| state.total_bytes = Some(bytes));
    }

    /// What is being done now, in a word or two.
    pub fn stage(&self, stage: &str) {
        self.change(|state| stage.clone_into(&mut state.stage));
    }

    /// How much of the whole is done, in percent; `None` while the whole is not known.
    #[must_use]
    pub fn percent(&self) -> Option<u8> {
        let state = lock(&self.inner.state);
        let total = state.total_bytes?;
        let percent = u128::from(state.done_bytes) * 100 / u128::from(total.max(1));
        Some(u8::try_from(percent).unwrap_or(100).min(100))
    }

    /// It is over: the bar goes away.
    pub fn finish(&self) {
        let mut state = lock(&self.inner.state);
        state.finished = true;
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.inner.state);
        change(&mut state);
        if self.inner.show != Show::Nothing && !state.finished {
            self.inner.tell(&mut state);
        }
    }
}

impl Inner {
    fn tell(&self, state: &mut State) {
        match (&state.bar, self.show) {
            (Some(bar), _) => {
                if let Some(total) = state.total_bytes {
                    bar.set_length(total);
                }
                bar.set_position(state.done_bytes);
                if bar.message() != state.stage {
                    bar.set_message(state.stage.clone());
                }
            }
            (None, _) if state.told.elapsed() < PATIENCE => {}
            (None, Show::Bar) => state.bar = Some(self.bar(state)),
            (None, Show::Json) => {
                state.told = Instant::now();
                self.console.object("progress", self.fields(state));
            }
            (None, Show::Nothing) => {}
        }
    }

    fn bar(&self, state: &State) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(state.total_bytes, ProgressDrawTarget::stderr());
        let bar = self.console.bars().add(bar).with_elapsed(self.begun.elapsed());
        let form = if state.total_bytes.is_some() {
            "{prefix} {bar:20} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}, {eta} left {msg}"
        } else {
            "{prefix} {spinner} {binary_bytes} {binary_bytes_per_sec}, {elapsed} {msg}"
        };
        bar.set_style(ProgressStyle::with_template(form).expect("the template is well-formed"));
        bar.set_prefix(self.label.clone());
        bar.set_message(state.stage.clone());
        bar.set_position(state.done_bytes);
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// The rate is that of the whole so far: steadier than the last second, and what an estimate should rest on.
    fn fields(&self, state: &State) -> Map<String, Value> {
        let elapsed_s = self.begun.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
        let per_second = state.done_bytes as f64 / elapsed_s.max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than 52 bits")]
        let left_s = state
            .total_bytes
            .filter(|_| per_second > 0.0)
            .map(|total| (total.saturating_sub(state.done_bytes) as f64 / per_second).round());
        let fields = json!({
            "label": self.label,
            "stage": state.stage,
            "done_bytes": state.done_bytes,
            "total_bytes": state.total_bytes,
            "elapsed_seconds": (elapsed_s * 10.0).round() / 10.0,
            "bytes_per_second": per_second.round(),
            "left_seconds": left_s,
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(bar) = lock(&self.state).bar.take() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_errand_shows_nothing() {
        let (console, captured) = Console::captured(Output::Json);
        let progress = console.progress("backing up", Some(100));
        progress.advance(100);
        progress.finish();
        assert_eq!(captured.stdout(), "");
    }

    #[test]
    fn after_a_second_a_program_is_told_how_far_it_is() {
        let (console, captured) = Console::captured(Output::Json);
        let progress = console.progress("backing up", Some(100));
        lock(&progress.inner.state).told -= PATIENCE;
        progress.advance(40);
        progress.advance(10);
        let line: Value = serde_json::from_str(captured.stdout().trim()).unwrap();
        assert_eq!(line["type"], "progress");
        assert_eq!(line["done_bytes"], 40);
        assert_eq!(line["total_bytes"], 100);
    }

    #[test]
    fn with_text_in_a_pipe_nothing_is_shown() {
        let (console, captured) = Console::captured(Output::Text);
        let progress = console.progress("backing up", None);
        lock(&progress.inner.state).told -= PATIENCE;
        progress.advance(40);
        assert_eq!(captured.stderr(), "");
        assert_eq!(captured.stdout(), "");
    }
}
