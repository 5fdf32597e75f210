//! Holding, releasing, forgetting points, and shutting out writers by hand.

use strongroom_model::RecoveryPointId;

use super::Repository;
use crate::errors::JournalError;
use crate::fold::Fold;
use crate::record::{Event, Fenced, Forgotten, Hold};

impl Repository {
    /// Puts a hold on a point; while it is there nobody can forget the point. Nothing happens when it is there
    /// already.
    ///
    /// # Errors
    /// When the point is not current, or the journal fails.
    pub async fn hold(&self, point: RecoveryPointId, hold: &str) -> Result<(), JournalError> {
        let event = Event::Held(Hold { point, hold: hold.to_owned() });
        let is_there = |fold: &Fold| fold.points.get(&point).is_some_and(|point| point.held.contains(hold));
        self.journal().append(|fold| (!is_there(fold)).then(|| event.clone())).await.map(drop)
    }

    /// Takes a hold off.
    ///
    /// # Errors
    /// When there is no such hold, or the journal fails.
    pub async fn release(&self, point: RecoveryPointId, hold: &str) -> Result<(), JournalError> {
        self.journal().say(Event::Released(Hold { point, hold: hold.to_owned() })).await.map(drop)
    }

    /// Forgets a point. Its bytes go with a later sweep.
    ///
    /// # Errors
    /// When it is not current or is held, or the journal fails.
    pub async fn forget(&self, point: RecoveryPointId, reason: &str) -> Result<(), JournalError> {
        self.journal().say(Event::Forgotten(Forgotten { point, reason: reason.to_owned() })).await.map(drop)
    }

    /// Forgets what `rule` names, one record each. The rule is asked again on every fold with records that are
    /// not of this call, so that it counts what others published or forgot meanwhile; and once more at the end. So
    /// it must be one that goes on naming the rest when what it named first is gone. Held points that it names
    /// are left alone. Answers what was forgotten.
    ///
    /// # Errors
    /// When the journal fails; what was forgotten until then stays forgotten.
    pub async fn forget_by(
        &self,
        mut rule: impl FnMut(&Fold) -> Vec<RecoveryPointId> + Send,
        reason: &str,
    ) -> Result<Vec<RecoveryPointId>, JournalError> {
        let mut forgotten = Vec::new();
        // What the rule named, and the record up to which that still counts.
        let (mut named, mut until) = (Vec::new().into_iter(), 0);
        loop {
            let mut chosen = None;
            let decide = |fold: &Fold| {
                let may_go = |point: &RecoveryPointId| {
                    fold.points.get(point).is_some_and(|point| point.held.is_empty())
                };
                chosen = (fold.number == until).then(|| named.find(may_go)).flatten();
                if chosen.is_none() {
                    named = rule(fold).into_iter();
                    chosen = named.find(may_go);
                }
                chosen.map(|point| Event::Forgotten(Forgotten { point, reason: reason.to_owned() }))
            };
            let Some(entry) = self.journal().append(decide).await? else { return Ok(forgotten) };
            until = entry.number;
            forgotten.extend(chosen);
        }
    }

    /// Shuts a writer out because a person says so. It costs the writer a new session, never data.
    ///
    /// # Errors
    /// When the session is not open, or the journal fails.
    pub async fn fence(&self, session: u64, reason: &str) -> Result<(), JournalError> {
        self.journal().say(Event::Fenced(Fenced { session, reason: reason.to_owned() })).await.map(drop)
    }
}
