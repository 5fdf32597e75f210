//! A writer of logs as PostgreSQL makes them, for all versions: pages, records through pages, switches, crashes in a record.

pub(crate) const SEGMENT: u64 = 1 << 20;
const PAGE: u64 = 8192;

pub(crate) struct Writer {
    pub(crate) from: u64,
    pub(crate) bytes: Vec<u8>,
    magic: u16,
    last: u64,
}

/// A record that is to be written.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) manager: u8,
    pub(crate) info: u8,
    pub(crate) transaction: u32,
    /// Blocks that it changes: file, bytes of data.
    pub(crate) blocks: Vec<(u32, usize)>,
    pub(crate) data: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(major: u16, from: u64) -> Self {
        let magic = match major {
            13 => 0xD106,
            14 => 0xD10D,
            15 => 0xD110,
            16 => 0xD113,
            _ => 0xD116,
        };
        assert_eq!(from % SEGMENT, 0);
        Self { from, bytes: Vec::new(), magic, last: 0 }
    }

    pub(crate) fn at(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }

    fn page(&mut self, left: u32, overwrites: bool) {
        let at = self.at();
        let long = at.is_multiple_of(SEGMENT);
        let flags = u16::from(left != 0) | u16::from(long) << 1 | u16::from(overwrites) << 3;
        self.bytes.extend(self.magic.to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(1_u32.to_le_bytes());
        self.bytes.extend(at.to_le_bytes());
        self.bytes.extend(left.to_le_bytes());
        self.bytes.extend([0; 4]);
        if long {
            self.bytes.extend(7_654_321_u64.to_le_bytes());
            self.bytes.extend(u32::try_from(SEGMENT).unwrap().to_le_bytes());
            self.bytes.extend(u32::try_from(PAGE).unwrap().to_le_bytes());
        }
    }

    fn align(&mut self) {
        while !self.at().is_multiple_of(8) {
            self.bytes.push(0);
        }
        if self.at().is_multiple_of(PAGE) {
            self.page(0, false);
        }
    }

    fn encode(&self, draft: &Draft) -> Vec<u8> {
        let mut body = Vec::new();
        for (number, (file, bytes)) in draft.blocks.iter().enumerate() {
            body.push(u8::try_from(number).unwrap());
            body.push(0x20);
            body.extend(u16::try_from(*bytes).unwrap().to_le_bytes());
            body.extend(1663_u32.to_le_bytes());
            body.extend(5_u32.to_le_bytes());
            body.extend(file.to_le_bytes());
            body.extend(0_u32.to_le_bytes());
        }
        match u8::try_from(draft.data.len()) {
            Ok(0) => {}
            Ok(short) => body.extend([255, short]),
            Err(_) => {
                body.push(254);
                body.extend(u32::try_from(draft.data.len()).unwrap().to_le_bytes());
            }
        }
        draft.blocks.iter().for_each(|(_, bytes)| body.extend(std::iter::repeat_n(0xAB, *bytes)));
        body.extend(&draft.data);
        let mut record = Vec::new();
        record.extend(u32::try_from(24 + body.len()).unwrap().to_le_bytes());
        record.extend(draft.transaction.to_le_bytes());
        record.extend(self.last.to_le_bytes());
        record.extend([draft.info, draft.manager, 0, 0]);
        record.extend(sum(body.iter().chain(&record)).to_le_bytes());
        record.extend(body);
        record
    }

    /// Writes a record: where it begins and ends.
    pub(crate) fn write(&mut self, draft: &Draft) -> (u64, u64) {
        self.align();
        let start = self.at();
        let record = self.encode(draft);
        self.through_pages(&record, record.len());
        self.last = start;
        (start, self.at())
    }

    fn through_pages(&mut self, record: &[u8], stop: usize) {
        let mut written = 0;
        while written < stop {
            if self.at().is_multiple_of(PAGE) {
                self.page(u32::try_from(record.len() - written).unwrap(), false);
            }
            let room = usize::try_from(PAGE - self.at() % PAGE).unwrap();
            let count = room.min(stop - written);
            self.bytes.extend(&record[written..written + count]);
            written += count;
        }
    }

    /// Begins a record through the end of the page, and crashes: the next page says that it starts afresh.
    pub(crate) fn crash_within(&mut self, draft: &Draft) -> bool {
        self.align();
        let record = self.encode(draft);
        let room = usize::try_from(PAGE - self.at() % PAGE).unwrap();
        if room >= record.len() {
            return false;
        }
        self.through_pages(&record, room);
        self.page(0, true);
        true
    }

    /// Ends the segment.
    pub(crate) fn switch(&mut self) {
        self.write(&Draft { manager: 0, info: 0x40, transaction: 0, blocks: Vec::new(), data: Vec::new() });
        while !self.at().is_multiple_of(SEGMENT) {
            self.bytes.push(0);
        }
    }
}

/// CRC-32C, bit by bit: slow, and obvious.
fn sum<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    let mut value = u32::MAX;
    for byte in bytes {
        value ^= u32::from(*byte);
        for _ in 0..8 {
            value = if value & 1 == 1 { value >> 1 ^ 0x82F6_3B78 } else { value >> 1 };
        }
    }
    !value
}
