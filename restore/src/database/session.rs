//! A session with a copy: a shell or a question at each moment, and steps forward between.

use std::io::Write as _;
use std::process::Stdio;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use strongroom_archive::DatabaseArchive;
use strongroom_console::{Console, Failed, Text};
use strongroom_database::{Commit, LineageId, Plan, Position, Rates, Target, Wanted};
use strongroom_model::World;
use strongroom_settings::{Interval, Moment};

use std::sync::Arc;

use super::interrupts::Interrupts;
use super::look::{Look, LookError};
use super::show::{commit, precise};

/// Where a copy goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// So much later than it is.
    By(SignedDuration),
    /// To this time.
    Time(Timestamp),
    /// To this position.
    Position(Position),
}

impl Step {
    /// `+2s`, `16/B374D848`, or a time.
    pub(super) fn parse(text: &str, console: &Console, world: &World) -> Result<Self, LookError> {
        let text = text.trim();
        let wrong = || LookError::Step { text: text.chars().take(80).collect() };
        if let Some(length) = text.strip_prefix('+') {
            let length: Interval = length.trim().parse().map_err(|_| wrong())?;
            return SignedDuration::try_from(length.get()).map(Self::By).map_err(|_| wrong());
        }
        if let Ok(position) = text.parse() {
            return Ok(Self::Position(position));
        }
        Moment::parse(text, world.clock.now(), console.time_zone())
            .map(|moment| Self::Time(moment.at))
            .map_err(|_| wrong())
    }
}

/// Where the copy was, and what it said there.
#[derive(Debug, Serialize)]
pub(super) struct Seen {
    at: Option<Timestamp>,
    cut: Position,
    lineage: LineageId,
    last_kept: Option<Commit>,
    first_dropped: Option<Commit>,
    /// The answer to `--sql`; `None`: there was a shell.
    answer: Option<String>,
}

/// A session.
pub(super) struct Session<'a> {
    pub(super) archive: &'a Arc<DatabaseArchive>,
    pub(super) console: &'a Console,
    pub(super) world: &'a World,
    pub(super) interrupts: &'a Interrupts,
    /// Asked at each moment, instead of a shell.
    pub(super) sql: Option<&'a str>,
    /// Where it goes, one after the other.
    pub(super) steps: Vec<Step>,
    /// The time that was asked for, when it was one.
    pub(super) at: Option<Timestamp>,
    pub(super) lineage: Option<LineageId>,
}

impl Session<'_> {
    /// From the first moment to the last. Behind the steps that were given, a person at a terminal is asked for more.
    pub(super) async fn run(mut self, look: &mut Look) -> Result<Vec<Seen>, Failed> {
        let mut seen = vec![self.see(look).await?];
        for step in std::mem::take(&mut self.steps) {
            self.go(look, step).await?;
            seen.push(self.see(look).await?);
        }
        while self.sql.is_none() && self.console.terminal().stdin {
            let Some(line) = self.next_line().await else { break };
            match line.trim() {
                "q" | "quit" | "exit" | "\\q" => break,
                "" | "shell" | "psql" => seen.push(self.see(look).await?),
                "?" | "help" => self.console.talk(HELP),
                text => {
                    // A step that does not work is told, and the copy stays where it is.
                    let gone = match Step::parse(text, self.console, self.world) {
                        Ok(step) => self.go(look, step).await,
                        Err(error) => Err(error.into()),
                    };
                    match gone {
                        Ok(()) => seen.push(self.see(look).await?),
                        Err(failed) if look.answers() => {
                            let failure = failed.failure();
                            self.console.warn(format_args!("{failed}. {}", failure.advice()));
                        }
                        Err(failed) => return Err(failed),
                    }
                }
            }
        }
        Ok(seen)
    }

    /// The shell, or the question.
    async fn see(&self, look: &mut Look) -> Result<Seen, Failed> {
        let plan = look.plan().clone();
        let zone = self.console.time_zone();
        let at = self.moment(&plan);
        self.console.talk(format_args!(
            "At {}, position {} of lineage {}; the next commit: {}",
            at.map_or_else(|| "the base".to_owned(), |at| precise(at, zone)),
            plan.cut,
            plan.lineage,
            commit(plan.first_dropped.as_ref(), zone)
        ));
        let answer = match self.sql {
            Some(sql) => Some(look.ask(sql).await?.text()),
            None => {
                self.shell(look).await?;
                None
            }
        };
        let (last_kept, first_dropped) = (plan.last_kept, plan.first_dropped);
        Ok(Seen { at, cut: plan.cut, lineage: plan.lineage, last_kept, first_dropped, answer })
    }

    async fn shell(&self, look: &mut Look) -> Result<(), Failed> {
        let (name, mut command) = look.copy().shell().await?;
        command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        self.interrupts.are_elsewhere(true);
        let ran = tokio::task::spawn_blocking(move || command.status()).await;
        self.interrupts.are_elsewhere(false);
        // How a session ended is the person's own affair.
        ran.map_err(|_| LookError::Gone)?.map_err(|cause| LookError::Program { name, cause })?;
        Ok(())
    }

    async fn go(&mut self, look: &mut Look, step: Step) -> Result<(), Failed> {
        let target = match step {
            Step::By(length) => {
                let from = self.moment(look.plan()).unwrap_or_default();
                Target::Time(from.checked_add(length).unwrap_or(Timestamp::MAX))
            }
            Step::Time(at) => Target::Time(at),
            Step::Position(position) => Target::Position(position),
        };
        let at = match target {
            Target::Time(at) => Some(at),
            _ => None,
        };
        let wanted = Wanted { target, lineage: self.lineage };
        let plan = self.archive.plan_from(&look.plan().base, wanted, Rates::default()).await;
        let plan = match plan {
            // From the base of this copy the planner says that nothing so old is there: the copy is at fault, not the archive.
            Err(strongroom_archive::ArchiveError::Refused(refusal))
                if matches!(*refusal, strongroom_database::Refusal::BeforeWindow { .. }) =>
            {
                return Err(LookError::BeforeBase { base: look.plan().base.ready_at }.into());
            }
            plan => plan?,
        };
        look.go_to(plan).await?;
        self.at = at;
        Ok(())
    }

    /// The moment at which a copy is: the time that was asked for, or that of its last commit.
    fn moment(&self, plan: &Plan) -> Option<Timestamp> {
        self.at.or(plan.last_kept.map(|kept| kept.at)).or(Some(plan.base.ready_at))
    }

    async fn next_line(&self) -> Option<String> {
        let mut out = std::io::stderr();
        // A terminal that takes nothing any more gives nothing either.
        let _ =
            out.write_all(b"copy (Enter: ask, +2s: forward, ?: help, q: leave)> ").and_then(|()| out.flush());
        let reading = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).is_ok_and(|bytes| bytes > 0).then_some(line)
        });
        tokio::select! {
            line = reading => line.ok().flatten(),
            () = self.interrupts.given_up.cancelled() => None,
        }
    }
}

const HELP: &str = "  Enter          ask the copy again, where it is
  +2s, +500ms    move it forward by so much
  today 18:05    move it forward to this time
  16/B374D848    move it forward to this position
  q              leave; the copy goes";

/// Writes what was asked and answered on a page.
pub(super) fn write(seen: &[Seen], page: &mut Text, console: &Console) {
    for seen in seen {
        let Some(answer) = &seen.answer else { continue };
        let at = seen.at.map_or_else(|| seen.cut.to_string(), |at| precise(at, console.time_zone()));
        page.line(format_args!("{at}  {answer}"));
    }
}
