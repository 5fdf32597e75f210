//! CRC-32C (Castagnoli), with which PostgreSQL guards its records: eight bytes at a time, from eight tables.
//!
//! Our own, since the log is read on the side of a working database: half a nanosecond a byte is far below what writing
//! it cost, and records are too short for anything that has to be set up first.

const TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0x82F6_3B78 } else { value >> 1 };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][(before & 0xFF) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// A sum under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sum(u32);

impl Default for Sum {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Sum {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        let (eights, rest) = bytes.as_chunks::<8>();
        for eight in eights {
            let value = u64::from_le_bytes(*eight) ^ u64::from(self.0);
            let of = |table: usize| TABLES[table][(value >> (8 * (7 - table)) & 0xFF) as usize];
            self.0 = of(7) ^ of(6) ^ of(5) ^ of(4) ^ of(3) ^ of(2) ^ of(1) ^ of(0);
        }
        for byte in rest {
            self.0 = self.0 >> 8 ^ TABLES[0][((self.0 ^ u32::from(*byte)) & 0xFF) as usize];
        }
    }

    pub(crate) const fn value(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_the_standard_whatever_the_pieces() {
        // RFC 3720, B.4, and the check value of the catalogue of sums.
        let sum = |bytes: &[u8]| {
            let mut sum = Sum::default();
            sum.update(bytes);
            sum.value()
        };
        assert_eq!(sum(b"123456789"), 0xE306_9283);
        assert_eq!(sum(&[0; 32]), 0x8A91_36AA);
        assert_eq!(sum(&[0xFF; 32]), 0x62A8_AB43);
        let bytes: Vec<u8> = (0..=255).collect();
        for cut in 0..bytes.len() {
            let mut pieces = Sum::default();
            pieces.update(&bytes[..cut]);
            pieces.update(&bytes[cut..]);
            assert_eq!(pieces.value(), sum(&bytes));
        }
    }
}
