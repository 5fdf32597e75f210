//! Restore tests beside everything else: one at a time, of whichever database's is due.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use strongroom_model::{Failure as _, chain};
use strongroom_repository::Fold;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::databases::Database;
use crate::databases::proving::{Aim, Evidence, Prover, due};
use crate::run::Agent;

/// A test that could not be carried out is tried again after this.
const AGAIN: SignedDuration = SignedDuration::from_mins(15);

/// What goes on.
#[derive(Debug, Default)]
pub(super) struct Proving {
    going: Option<JoinHandle<()>>,
    /// When each database's was begun last: what came of it the journal says, if anything.
    begun: BTreeMap<String, Timestamp>,
    /// It was told that this agent cannot test.
    told: bool,
}

impl Proving {
    /// Starts what is due, unless one is going on.
    pub(super) async fn keep(
        &mut self,
        prover: Option<&Prover>,
        agent: &Arc<Agent>,
        fold: &Fold,
        now: Timestamp,
        cancel: &CancellationToken,
    ) {
        if self.going.as_ref().is_some_and(|going| !going.is_finished()) {
            return;
        }
        let Some((database, aim)) = self.next(agent, fold, now) else { return };
        // A write-only agent opens nothing that was stored, so it proves nothing either.
        let may = agent.repository.may_check(true).await;
        if let Some(prover) = prover.filter(|_| may.is_ok()) {
            self.begun.insert(database.name.clone(), now);
            let (prover, agent, cancel) = (prover.clone(), Arc::clone(agent), cancel.clone());
            self.going = Some(tokio::spawn(async move {
                if let Some(rules) = &database.test {
                    prover.prove(&agent, &database, rules, aim, &cancel).await;
                }
            }));
        } else if !self.told {
            self.told = true;
            let why = may.err().map_or_else(
                || "this program is not found".to_owned(),
                |error| format!("{}: {}", chain(&error), error.advice()),
            );
            tracing::error!(
                database = database.name,
                why,
                "restores are not tested here: run `strongroom db test` now and then where a key is that may read"
            );
        }
    }

    fn next(&self, agent: &Agent, fold: &Fold, now: Timestamp) -> Option<(Arc<Database>, Aim)> {
        let rested = |database: &&Arc<Database>| {
            let begun = self.begun.get(&database.name);
            begun.is_none_or(|at| *at > now || now.duration_since(*at) >= AGAIN)
        };
        let all = agent.databases.iter().filter(rested);
        let mut due = all.filter_map(|database| {
            let aim = due(&Evidence::of(fold, &database.name), database.test.as_ref()?, now)?;
            Some((Arc::clone(database), aim))
        });
        due.next()
    }

    /// Until what goes on has ended. It hears of the agent's end by itself.
    pub(super) async fn ended(&mut self) {
        if let Some(going) = self.going.take() {
            let _ = going.await;
        }
    }
}
