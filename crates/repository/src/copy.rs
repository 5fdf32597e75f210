//! Second copies: the whole repository, byte by byte as it is sealed, in another store.
//!
//! ```text
//! packs and maps -> key slots -> journal records, in order -> checkpoint, index runs -> head (until = N) -> what is dead goes
//! ```
//! What always holds:
//! * The head is written last, and says up to which record the copy goes. Readers read no further, so a copy is at each
//!   moment a whole repository as it was after that record; without a head there is none yet.
//! * Journal records are created, never overwritten: a record with other bytes under its number is a fork, and stops everything.
//! * Where a rule chooses which points go there ([`Chosen`]), packs of data that none of these needs may be absent; all else is the same.
//! * Only what the journal's pack table names is copied, and each pack is compared with the hash in its trailer on the way.
//! * An object is deleted only when the sweep that made it dead is done in the copy's own journal, as its head says.
//! * Nothing is opened on the way but the journal.
//! * Nobody else writes to a copy, until it is promoted: then it is a repository of its own for ever, and copying into it is refused.

mod chosen;
mod error;
mod promote;
mod replay;
mod run;

pub use chosen::Chosen;
pub use error::CopyError;
pub use promote::{PromoteError, PromoteReport, Promoted};
pub use run::{CopyReport, CopyState, copy_state};
