//! The last moment for which a query still holds, found among the commits of the archived log.
//!
//! The state after the first k commits is one of n + 1 states, and the query holds in the first and not in the last. One copy is
//! brought to the first state. For each question it is moved forward; where the query still holds it is kept, and where it does not the
//! next copy begins again with the one that was kept, which is a clone of which nothing is copied. So the base is brought once, and no part
//! of the log is fetched twice.

use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::Serialize;
use strongroom_archive::{ArchiveError, DatabaseArchive};
use strongroom_console::{Console, Failed, Text};
use strongroom_database::{Base, Commit, LogPiece, Plan, Position, Rates, Target, Wanted};
use strongroom_model::VolumeName;

use super::answer::{Answer, AskError};
use super::look::{Look, LookError};
use super::show::{commit, precise};

/// The commits between two cuts, in the order of the log. Only those bundles are read of which a commit is wanted.
struct Commits {
    archive: Arc<DatabaseArchive>,
    pieces: Vec<(LogPiece, u64)>,
    from: Position,
    to: Position,
}

impl Commits {
    async fn of(archive: &Arc<DatabaseArchive>, plan: &Plan, from: Position) -> Result<Self, ArchiveError> {
        let mut commits = Self { archive: Arc::clone(archive), pieces: Vec::new(), from, to: plan.cut };
        for piece in plan.log.iter().filter(|piece| piece.to > from) {
            let Some(summary) = &piece.range.commits else { continue };
            let whole = piece.from == piece.range.from
                && piece.to == piece.range.to
                && summary.first.start >= from
                && summary.last.start < plan.cut;
            let count = if whole { summary.count } else { commits.read(piece).await?.len() as u64 };
            commits.pieces.push((piece.clone(), count));
        }
        Ok(commits)
    }

    async fn read(&self, piece: &LogPiece) -> Result<Vec<Commit>, ArchiveError> {
        let within = |commit: &Commit| {
            piece.from < commit.end
                && commit.end <= piece.to
                && commit.start >= self.from
                && commit.start < self.to
        };
        Ok(self.archive.index(&piece.range).await?.commits().into_iter().filter(within).collect())
    }

    fn count(&self) -> u64 {
        self.pieces.iter().map(|(_, count)| count).sum()
    }

    /// The commit with this number, from 0; `None` behind the last.
    async fn get(&self, number: u64) -> Result<Option<Commit>, ArchiveError> {
        let mut left = number;
        for (piece, count) in &self.pieces {
            if left < *count {
                let commits = self.read(piece).await?;
                return Ok(usize::try_from(left).ok().and_then(|at| commits.get(at).copied()));
            }
            left -= count;
        }
        Ok(None)
    }
}

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    database: String,
    volume: VolumeName,
    sql: String,
    /// The last commit for which it holds; `None`: it holds at the beginning, and not after the first commit.
    last_holds: Option<Commit>,
    /// The first for which it does not; `None`: it holds to the end.
    first_not: Option<Commit>,
    /// How many commits were looked through.
    commits: u64,
    /// How many states were asked.
    steps: u32,
    /// The command that restores the last state for which it holds.
    restore: String,
}

/// What is looked for, and between what.
pub(super) struct Bisect<'a> {
    pub(super) archive: &'a Arc<DatabaseArchive>,
    pub(super) console: &'a Console,
    pub(super) sql: &'a str,
    pub(super) volume: &'a VolumeName,
    /// The last state that is looked at, from the same base as the first.
    pub(super) last: Plan,
}

impl Bisect<'_> {
    /// Looks, in a copy that stands at the first state.
    pub(super) async fn run(&self, look: &mut Look) -> Result<Found, Failed> {
        let first = look.plan().clone();
        let commits = Commits::of(self.archive, &self.last, first.cut).await?;
        let total = commits.count();
        self.console.talk(format_args!(
            "{total} commits are looked through, in about {} steps",
            total.max(2).ilog2() + 2
        ));
        let answer = look.ask(self.sql).await?;
        if !answer.holds() {
            return Err(LookError::NeverHeld { answer: answer.text().chars().take(80).collect() }.into());
        }
        let mut steps = 1;
        // It holds after `low` commits, in `stood`, and not after `high`.
        let (mut low, mut high, mut stood) = (0, total, first.clone());
        look.stand().await?;
        let mut next = total;
        while next > low {
            look.again(&stood).await?;
            look.go_to(self.after(&commits, &first.base, next).await?).await?;
            steps += 1;
            let it_holds = holds(look.ask(self.sql).await)?;
            let last = commits.get(next - 1).await?;
            let zone = self.console.time_zone();
            let word = if it_holds { "holds" } else { "does not hold" };
            self.console.talk(format_args!("  {word} after {}", commit(last.as_ref(), zone)));
            if it_holds {
                low = next;
                if next < high {
                    stood = look.plan().clone();
                    look.stand().await?;
                }
            } else {
                high = next;
            }
            next = if high - low > 1 { low + (high - low) / 2 } else { low };
        }
        let last_holds = match low.checked_sub(1) {
            Some(number) => commits.get(number).await?,
            None => first.last_kept,
        };
        let first_not = if low < total { commits.get(low).await? } else { None };
        let at = first_not.map_or(self.last.cut, |commit| commit.start);
        Ok(Found {
            database: self.archive.database().to_owned(),
            volume: self.volume.clone(),
            sql: self.sql.to_owned(),
            last_holds,
            first_not,
            commits: total,
            steps,
            restore: format!(
                "strongroom db restore {} --position {at} --lineage {}",
                self.volume, self.last.lineage
            ),
        })
    }

    /// The plan of the state after so many of the commits.
    async fn after(&self, commits: &Commits, base: &Base, count: u64) -> Result<Plan, ArchiveError> {
        let Some(next) = commits.get(count).await? else { return Ok(self.last.clone()) };
        let wanted = Wanted::new(Target::Position(next.start)).in_lineage(self.last.lineage);
        self.archive.plan_from(base, wanted, Rates::default()).await
    }
}

/// What names a table that is not there does not hold: it was dropped.
fn holds(answer: Result<Answer, AskError>) -> Result<bool, AskError> {
    match answer {
        Err(error) if error.is_missing() => Ok(false),
        answer => answer.map(|answer| answer.holds()),
    }
}

impl Found {
    /// For a person.
    pub(super) fn write(&self, page: &mut Text, zone: &TimeZone) {
        let first_not = match &self.first_not {
            Some(found) => commit(Some(found), zone),
            None => "it holds to the end".to_owned(),
        };
        let last = self
            .last_holds
            .as_ref()
            .map_or_else(|| "the beginning".to_owned(), |found| commit(Some(found), zone));
        page.facts([
            ("last that holds", last),
            ("first that does not", first_not),
            ("looked through", format!("{} commits in {} steps", self.commits, self.steps)),
            ("restore", self.restore.clone()),
        ]);
        if let Some(found) = &self.first_not {
            page.line(format_args!("It stopped to hold at {}.", precise(found.at, zone)));
        }
    }
}
