//! The packs that a leaf or node names, each written once.
//!
//! | bytes | field |
//! |---|---|
//! | 2 | how many packs, u16 |
//! | 2 | how many rows, u16 |
//! | 16 each | pack ids, in the order in which the rows first name them |
//!
//! after which the rows follow. A leaf may say more behind them; of that the table has the packs too, after those of the rows.

use strongroom_model::PackId;

/// Gives packs their places while rows are encoded.
#[derive(Debug, Default)]
pub(super) struct PackTable {
    packs: Vec<PackId>,
}

impl PackTable {
    pub(super) fn place_of(&mut self, pack: PackId) -> u16 {
        // Rows mostly name the pack of the row before.
        let at = self.packs.iter().rposition(|known| *known == pack).unwrap_or_else(|| {
            self.packs.push(pack);
            self.packs.len() - 1
        });
        u16::try_from(at).expect("at most two packs for each of 1024 rows")
    }

    pub(super) fn encode(&self, rows: usize) -> Vec<u8> {
        let count = |count: usize| u16::try_from(count).expect("at most 2048 of each").to_le_bytes();
        let mut bytes = [count(self.packs.len()), count(rows)].concat();
        for pack in &self.packs {
            bytes.extend_from_slice(pack.bytes());
        }
        bytes
    }
}

/// The packs of a leaf or node, while its rows are decoded.
#[derive(Debug)]
pub(super) struct PackNames<'a> {
    packs: &'a [u8],
    /// How many packs were named so far.
    named: usize,
}

impl<'a> PackNames<'a> {
    /// Splits off the table, and rows of `row_bytes` each, with nothing behind them.
    pub(super) fn decode(
        bytes: &'a [u8],
        row_bytes: usize,
    ) -> Result<(Self, std::slice::ChunksExact<'a, u8>), &'static str> {
        let (names, rows, more) = Self::decode_with_more(bytes, row_bytes)?;
        if more.is_empty() { Ok((names, rows)) } else { Err("its length does not fit its counts") }
    }

    /// [`Self::decode`], and what lies behind the rows.
    pub(super) fn decode_with_more(
        bytes: &'a [u8],
        row_bytes: usize,
    ) -> Result<(Self, std::slice::ChunksExact<'a, u8>, &'a [u8]), &'static str> {
        let (head, rest) = bytes.split_first_chunk::<4>().ok_or("it is too short")?;
        let packs = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let rows = usize::from(u16::from_le_bytes([head[2], head[3]]));
        if rows > 1024 || rest.len() < packs * 16 + rows * row_bytes {
            return Err("its length does not fit its counts");
        }
        let (packs, rest) = rest.split_at(packs * 16);
        let (rows, more) = rest.split_at(rows * row_bytes);
        Ok((Self { packs, named: 0 }, rows.chunks_exact(row_bytes), more))
    }

    /// The pack at a place; places are named for the first time in ascending order.
    pub(super) fn pack(&mut self, place: u16) -> Result<PackId, &'static str> {
        let place = usize::from(place);
        if place > self.named {
            return Err("its packs are not in the order of their use");
        }
        self.named = self.named.max(place + 1);
        let id = self.packs.get(place * 16..place * 16 + 16).ok_or("it names a pack that its table lacks")?;
        Ok(PackId::from_bytes(id.try_into().expect("16 bytes were asked for")))
    }

    /// Every pack of the table must have been named, once.
    pub(super) fn finish(self) -> Result<(), &'static str> {
        if self.named * 16 != self.packs.len() {
            return Err("its table has a pack that no row names");
        }
        let mut packs: Vec<&[u8]> = self.packs.chunks_exact(16).collect();
        packs.sort_unstable();
        if packs.windows(2).any(|pair| pair[0] == pair[1]) {
            Err("its table has a pack twice")
        } else {
            Ok(())
        }
    }
}
