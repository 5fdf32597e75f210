//! Writes packs, one after another, as entries are pushed.

use std::collections::HashMap;
use std::sync::Arc;

use strongroom_model::PackId;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::entry::associated;
use super::footer::seal_footer;
use super::header::{MAGIC, PackHeader, SEALED, flags};
use super::object::ObjectWriter;
use super::trailer::Trailer;
use super::{
    EntryRef, EntryRow, EntryType, MAX_ENTRIES, MAX_ENTRY_BYTES, PackContext, PackSettings, Receipts,
    StoredPack, WriteError,
};
use crate::chunk::{ChunkId, Compressed};
use crate::layout::{ObjectName, PackKind, PackObject};
use crate::seal::key::{Purpose, Sealer, TAG_BYTES};

/// Writes packs of one kind, one after another, as entries are pushed.
///
/// One task owns it: that is what gives entries their order. It seals and hashes (0.3 ms a MiB); compressing is the
/// pushers' work. Memory: the part being filled, the parts on the way, and 92 bytes an entry of packs without receipt.
#[derive(Debug)]
pub struct PackWriter {
    context: PackContext,
    kind: PackKind,
    settings: PackSettings,
    receipts: Receipts,
    slots: Arc<Semaphore>,
    open: Option<OpenPack>,
    closing: JoinSet<Result<StoredPack, WriteError>>,
    pending: HashMap<ChunkId, EntryRef>,
    failed: Option<WriteError>,
}

#[derive(Debug)]
struct OpenPack {
    turn: u64,
    object: PackObject,
    header: PackHeader,
    sealer: Sealer,
    rows: Vec<EntryRow>,
    plain_bytes: u64,
    out: ObjectWriter,
}

impl PackWriter {
    /// A writer of packs of `kind`. Receipts appear in `receipts`.
    #[must_use]
    pub fn new(context: PackContext, kind: PackKind, settings: PackSettings, receipts: Receipts) -> Self {
        let slots = Arc::new(Semaphore::new(settings.parts_in_flight.max(1)));
        Self {
            context,
            kind,
            settings,
            receipts,
            slots,
            open: None,
            closing: JoinSet::new(),
            pending: HashMap::new(),
            failed: None,
        }
    }

    /// Where the next entry will lie.
    pub fn next_at(&mut self) -> EntryRef {
        let pack = self.open_pack();
        EntryRef { pack: pack.object.pack, entry: pack.sealer.next() }
    }

    /// Seals an entry and says where it lies, for ever. Waits only while too many parts are on the way.
    ///
    /// `id` must be the id of the plain bytes, of a delta that of the chunk: readers compute it again and refuse another.
    ///
    /// # Errors
    /// When the store failed, now or earlier, or the entry is too large. After a failure of the store the writer
    /// answers the same error for ever; packs that have receipts keep them. The same when this future is dropped before it
    /// has ended.
    ///
    /// # Panics
    /// When the entry belongs into the other kind of pack.
    pub async fn push(
        &mut self,
        id: ChunkId,
        entry_type: EntryType,
        entry: Compressed,
    ) -> Result<EntryRef, WriteError> {
        assert_eq!(entry_type.pack_kind(), self.kind, "data and map packs are never mixed");
        self.check()?;
        if entry.plain_bytes > MAX_ENTRY_BYTES {
            return Err(WriteError::TooLarge {
                bytes: entry.plain_bytes.into(),
                limit: MAX_ENTRY_BYTES.into(),
            });
        }
        let repository = self.context.repository;
        let pack = self.open_pack();
        let at = pack.seal(repository, id, entry_type, &entry);
        // A delta is of use only to whoever knows its base as well: nobody else is pointed to it.
        if entry_type == EntryType::Chunk {
            self.pending.entry(id).or_insert(at);
        }
        self.begin_waiting();
        let settled = self.settle().await;
        self.end_waiting(settled)?;
        Ok(at)
    }

    /// Where a chunk lies that was pushed into a pack which has no receipt yet.
    #[must_use]
    pub fn pending(&self, id: &ChunkId) -> Option<EntryRef> {
        self.pending.get(id).copied()
    }

    /// Closes the pack under way and waits until all packs have receipts.
    ///
    /// # Errors
    /// When the store failed, now or earlier.
    pub async fn flush(&mut self) -> Result<(), WriteError> {
        self.check()?;
        self.begin_waiting();
        let mut result = self.close().await;
        while result.is_ok()
            && let Some(done) = self.closing.join_next().await
        {
            result = self.closed(done);
        }
        self.end_waiting(result)
    }

    /// [`Self::flush`], and the end.
    ///
    /// # Errors
    /// When the store failed, now or earlier.
    pub async fn finish(mut self) -> Result<(), WriteError> {
        self.flush().await
    }

    fn open_pack(&mut self) -> &mut OpenPack {
        let Self { open, context, kind, receipts, slots, .. } = self;
        open.get_or_insert_with(|| OpenPack::begin(context, *kind, receipts, slots))
    }

    async fn settle(&mut self) -> Result<(), WriteError> {
        while let Some(done) = self.closing.try_join_next() {
            self.closed(done)?;
        }
        let Some(pack) = &mut self.open else { return Ok(()) };
        pack.out.settle().await?;
        let full = pack.out.len() >= self.settings.target_bytes || pack.rows.len() >= MAX_ENTRIES as usize;
        if full || self.receipts.should_close(pack.turn) { self.close().await } else { Ok(()) }
    }

    /// Seals the footer and lets a task see to the rest, so that the next pack can begin.
    async fn close(&mut self) -> Result<(), WriteError> {
        let Some(pack) = self.open.take() else { return Ok(()) };
        let receipts = self.receipts.clone();
        let stored = pack.close(&self.context, self.kind, self.settings.domain).await?;
        self.closing.spawn(async move {
            let receipt = stored.await?;
            receipts.add(receipt.clone());
            Ok(receipt)
        });
        Ok(())
    }

    fn closed(
        &mut self,
        done: Result<Result<StoredPack, WriteError>, tokio::task::JoinError>,
    ) -> Result<(), WriteError> {
        let receipt = done.map_err(|_| WriteError::BrokenOff)??;
        for (id, at) in receipt.entries() {
            if self.pending.get(&id) == Some(&at) {
                self.pending.remove(&id);
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), WriteError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// While we wait, whoever called may give up and drop our future, with a part in mid-air. So the writer is out of use
    /// until the wait has ended.
    fn begin_waiting(&mut self) {
        self.failed = Some(WriteError::BrokenOff);
    }

    fn end_waiting(&mut self, result: Result<(), WriteError>) -> Result<(), WriteError> {
        self.failed = result.as_ref().err().cloned();
        result
    }
}

impl OpenPack {
    fn begin(context: &PackContext, kind: PackKind, receipts: &Receipts, slots: &Arc<Semaphore>) -> Self {
        let entropy = &*context.entropy;
        let object = PackObject::fresh(PackId::random(entropy), entropy);
        #[cfg(test)]
        let object = crate::testing::content_named(kind).unwrap_or(object);
        let (epoch, master, recipient) = context.keyring.sealing_data();
        let cipher = context.keyring.cipher();
        let (seal, sealer) = match recipient.filter(|_| kind == PackKind::Data) {
            Some(recipient) => {
                let flags = flags(kind) | SEALED;
                Sealer::fresh_to(&recipient, MAGIC, cipher, flags, epoch, entropy)
                    .expect("a ring holds no data key that takes no seals")
            }
            None => Sealer::fresh(Purpose::Pack, MAGIC, cipher, flags(kind), epoch, &master, entropy),
        };
        let header = PackHeader { seal, kind, pack: object.pack };
        let mut out = ObjectWriter::new(context.store.clone(), ObjectName::pack(kind, object), slots.clone());
        out.buffer.extend_from_slice(&header.encode());
        let turn = receipts.begin(object.pack);
        Self { turn, object, header, sealer, rows: Vec::new(), plain_bytes: 0, out }
    }

    fn seal(
        &mut self,
        repository: strongroom_model::RepositoryId,
        id: ChunkId,
        entry_type: EntryType,
        entry: &Compressed,
    ) -> EntryRef {
        let Compressed { codec, plain_bytes, ref bytes } = *entry;
        let pack = self.object.pack;
        let offset = self.out.len();
        let stored_bytes = u32::try_from(bytes.len() + TAG_BYTES)
            .expect("coded bytes are never more than plain ones, at most 64 MiB");
        let associated =
            |number| associated(repository, pack, number, stored_bytes, plain_bytes, entry_type, codec);
        let number = self.sealer.seal(associated, bytes, &mut self.out.buffer);
        self.rows.push(EntryRow { number, offset, stored_bytes, plain_bytes, entry_type, codec, id });
        self.plain_bytes += u64::from(plain_bytes);
        EntryRef { pack, entry: number }
    }

    async fn close(
        mut self,
        context: &PackContext,
        kind: PackKind,
        domain: u32,
    ) -> Result<impl Future<Output = Result<StoredPack, WriteError>> + Send + use<>, WriteError> {
        let domain = if kind == PackKind::Data { domain } else { 0 };
        let footer =
            seal_footer(context, &*context.entropy, self.object, &self.header, domain, &self.rows, &[]);
        let trailer = Trailer::of(&self.rows, self.out.len(), &footer);
        self.out.buffer.extend_from_slice(&footer);
        let stored = self.out.close(trailer).await?;
        let (object, plain_bytes) = (self.object, self.plain_bytes);
        let chunks = self.rows.iter().filter(|row| row.entry_type != EntryType::Delta);
        let entries: Vec<_> = chunks.map(|row| (row.number, row.id)).collect();
        Ok(async move {
            let bytes = stored.await?;
            Ok(StoredPack { object, kind, bytes, entry_count: trailer.entries, plain_bytes, entries })
        })
    }
}
