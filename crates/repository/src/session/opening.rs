//! Beginning a session, taking one up again after a kill, and going on after a fence (step 6 of the protocol's
//! Writer).

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use futures::{StreamExt, TryStreamExt};

use super::background::{self, Background};
use super::notes::{Left, Notes, Owner};
use super::{Lists, Session};
use crate::errors::{JournalError, SessionError};
use crate::layout::PackKind;
use crate::pack::{EntryType, Receipts, StoredPack};
use crate::record::{Event, Opened, Placed};
use crate::repository::Repository;
use crate::rules::{Rule, holds};

/// How many footers or records are read side by side.
const AT_ONCE: usize = 8;

/// Uploads of an ended session are given up when so many records came since: reading them costs more than
/// sending again.
const MOST_RECORDS: u64 = 20_000;

impl Repository {
    /// Begins a session, or takes up one that this agent had open for the same purpose on this machine when it
    /// was killed: what that one stored is not sent again. What this machine lacks of the dedup index is
    /// fetched.
    ///
    /// # Errors
    /// When `opened` cannot be appended.
    pub async fn open_session(&self, purpose: &str) -> Result<Session, SessionError> {
        self.journal().may_append()?;
        let left = self.left_session(purpose);
        if let Some(left) = left {
            let fold = self.fold().await?;
            let is_ours = fold
                .sessions
                .get(&left.owner.session)
                .is_some_and(|session| self.unveil(&session.agent) == left.owner.agent);
            if is_ours {
                let kept = unpublished(left.receipts, |pack| fold.packs.contains_key(pack));
                // Its last sign of life may be of yesterday: nobody shall fence it in its first minute.
                background::give_sign_of_life(self, left.owner.session).await;
                return Ok(Session::start(self, left.owner, kept, Some(left.notes), false).await);
            }
            return self
                .open_after(left.owner.session, left.receipts, Some(left.notes), purpose, false)
                .await;
        }
        let owner = self.append_opened(purpose).await?;
        let notes = self.begin_notes(&owner);
        Ok(Session::start(self, owner, Vec::new(), notes, false).await)
    }

    /// The newest notes of a process of this agent that is gone and had this purpose. Older ones have nothing
    /// that the newest lacks but what was given up before, so they are removed when their session is over.
    fn left_session(&self, purpose: &str) -> Option<Left> {
        let state = self.journal().state.as_ref()?;
        let agent = &self.journal().agent;
        let mut found = None;
        for left in Notes::left_in(state.path()) {
            if left.owner.agent != *agent || left.owner.purpose != purpose {
                continue;
            }
            if found.is_none() {
                found = Some(left);
            } else if !self.known_fold().sessions.contains_key(&left.owner.session) {
                left.notes.remove();
            }
        }
        found
    }

    async fn append_opened(&self, purpose: &str) -> Result<Owner, JournalError> {
        let agent = self.journal().agent.clone();
        let opened = Opened { agent: agent.clone(), purpose: purpose.to_owned() };
        let entry = self.journal().say(Event::Opened(opened)).await?;
        Ok(Owner { session: entry.number, agent, purpose: purpose.to_owned() })
    }

    fn begin_notes(&self, owner: &Owner) -> Option<Notes> {
        let state = self.journal().state.as_ref()?;
        match Notes::begin(state.path(), owner) {
            Ok(notes) => Some(notes),
            Err(cause) => {
                tracing::warn!(path = %state.path().display(), %cause, "receipts cannot be noted; a run after a kill would send everything again");
                None
            }
        }
    }

    /// A new session that goes on with the uploads of one that has ended: with those that no plan has named in
    /// any record between the two `opened`. A plan after the new `opened` waits for the new session, and one
    /// before the old could not know them.
    async fn open_after(
        &self,
        old: u64,
        receipts: Vec<StoredPack>,
        old_notes: Option<Notes>,
        purpose: &str,
        check_all: bool,
    ) -> Result<Session, SessionError> {
        let owner = self.append_opened(purpose).await?;
        let fold = self.known_fold();
        let mut kept = unpublished(receipts, |pack| fold.packs.contains_key(pack));
        if !kept.is_empty() && holds(Rule::AdoptUnplannedOnly) {
            match self.planned_between(old, owner.session).await? {
                Some(planned) => kept.retain(|receipt| !planned.contains(&receipt.place().into())),
                None => kept.clear(),
            }
        }
        let mut notes = self.begin_notes(&owner);
        if let Some(notes) = &mut notes {
            notes.append(&kept);
        }
        if let Some(old_notes) = old_notes {
            old_notes.remove();
        }
        Ok(Session::start(self, owner, kept, notes, check_all).await)
    }

    /// Every object that a plan named in the records between two numbers, all of them read one by one. `None`:
    /// too many.
    async fn planned_between(
        &self,
        after: u64,
        before: u64,
    ) -> Result<Option<BTreeSet<Placed>>, JournalError> {
        if before.saturating_sub(after) > MOST_RECORDS {
            return Ok(None);
        }
        let fetch = |number| async move {
            match self.journal().fetch(number).await? {
                Some((record, _)) => Ok(record.event),
                None => Err(JournalError::Hole { missing: number, later: before }),
            }
        };
        let mut events = futures::stream::iter(after + 1..before).map(fetch).buffered(AT_ONCE);
        let mut planned = BTreeSet::new();
        while let Some(event) = events.try_next().await? {
            if let Event::SweepPlanned(plan) = event {
                planned.extend(plan.objects);
            }
        }
        Ok(Some(planned))
    }
}

/// What is in the pack table needs no receipt any more.
fn unpublished(
    receipts: Vec<StoredPack>,
    is_listed: impl Fn(&strongroom_model::PackId) -> bool,
) -> Vec<StoredPack> {
    receipts.into_iter().filter(|receipt| !is_listed(&receipt.pack())).collect()
}

impl Session {
    async fn start(
        repository: &Repository,
        owner: Owner,
        kept: Vec<StoredPack>,
        notes: Option<Notes>,
        check_all: bool,
    ) -> Self {
        let fold = repository.known_fold();
        repository.refresh_index(&fold).await;
        let (kept, recent) = read_kept(repository, kept).await;
        if !recent.is_empty() {
            tracing::info!(
                session = owner.session,
                packs = kept.len(),
                "going on with what was stored before"
            );
        }
        let session = Self {
            repository: repository.clone(),
            id: owner.session,
            purpose: owner.purpose,
            receipts: Receipts::from_kept(kept),
            check_all,
            lists: Mutex::new(Lists {
                recent: HashMap::new(),
                referred: HashMap::new(),
                notes,
                unclear: None,
            }),
            background: Background::start(repository, owner.session),
        };
        {
            let mut lists = session.lists();
            for entry in recent {
                lists.recent.insert(entry.0, entry.1);
                if lists.recent.len() >= super::RECENT_ENTRIES {
                    session.spill(&mut lists);
                }
            }
        }
        session
    }

    /// Goes on after having been fenced: a new session that keeps those uploads that no plan has named
    /// meanwhile. Drafts may be published in it; what they refer to is then checked entry by entry.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn reopen(self) -> Result<Self, SessionError> {
        self.keep();
        let notes = self.lists().notes.take();
        let receipts = self.receipts.stored();
        let referred = std::mem::take(&mut self.lists().referred);
        let unclear = self.lists().unclear.take();
        self.background.finish().await;
        let session = self.repository.open_after(self.id, receipts, notes, &self.purpose, true).await?;
        {
            let mut lists = session.lists();
            lists.referred = referred;
            lists.unclear = unclear;
        }
        Ok(session)
    }
}

/// Reads the footers of kept data packs, so that their chunks are found. A pack whose footer cannot be read is
/// not gone on with.
async fn read_kept(
    repository: &Repository,
    kept: Vec<StoredPack>,
) -> (Vec<StoredPack>, Vec<(crate::chunk::ChunkId, crate::pack::EntryRef)>) {
    let fetcher = &repository.inner.fetcher;
    let read = |receipt: StoredPack| async move {
        if receipt.kind() == PackKind::Map {
            return Some((receipt, Vec::new()));
        }
        let footer = fetcher.footer(receipt.place()).await.ok()?;
        let pack = receipt.pack();
        let chunks = footer.rows().iter().filter(|row| row.entry_type == EntryType::Chunk);
        let entries = chunks.map(|row| (row.id, crate::pack::EntryRef { pack, entry: row.number })).collect();
        Some((receipt, entries))
    };
    let mut packs = Vec::new();
    let mut entries = Vec::new();
    let mut answers = futures::stream::iter(kept).map(read).buffered(AT_ONCE);
    while let Some(answer) = answers.next().await {
        if let Some((receipt, found)) = answer {
            packs.push(receipt);
            entries.extend(found);
        }
    }
    (packs, entries)
}
