//! How many rows an event has: they are counted by walking over their values, since nothing says it.

use crate::postgres::Bytes;

/// The columns of a table, as far as the length of their values goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) id: u64,
    columns: Vec<Width>,
}

/// How long a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    /// So many bytes.
    Fixed(usize),
    /// As many as a number of so many bytes before it says.
    Counted(usize),
}

/// A server has at most so many columns in a table.
const MOST_COLUMNS: u64 = 4096;

impl Table {
    /// From a table map. `None`: a kind of column that is not known here.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(body);
        let id = table(&mut bytes)?;
        bytes.u16()?;
        for _ in 0..2 {
            let length = bytes.u8()?;
            bytes.take(usize::from(length) + 1)?;
        }
        let count = usize::try_from(number(&mut bytes).filter(|count| *count <= MOST_COLUMNS)?).ok()?;
        let types = bytes.take(count)?;
        let length = usize::try_from(number(&mut bytes)?).ok()?;
        let mut about = Bytes(bytes.take(length)?);
        let columns = types.iter().map(|kind| width(*kind, &mut about)).collect::<Option<_>>()?;
        Some(Self { id, columns })
    }

    /// How many rows an event has: `is_second` is its newer form, `is_update` has two of each. `None`: it cannot be told.
    pub(super) fn count(&self, body: &[u8], is_second: bool, is_update: bool) -> Option<u32> {
        let mut bytes = Bytes(body);
        if table(&mut bytes)? != self.id {
            return None;
        }
        bytes.u16()?;
        if is_second {
            let more = usize::from(bytes.u16()?);
            bytes.take(more.checked_sub(2)?)?;
        }
        if number(&mut bytes)? != self.columns.len() as u64 {
            return None;
        }
        let bitmap = self.columns.len().div_ceil(8);
        let first = bytes.take(bitmap)?;
        let second = if is_update { bytes.take(bitmap)? } else { first };
        let mut rows = 0_u32;
        while !bytes.0.is_empty() {
            let left = bytes.0.len();
            self.pass_over(&mut bytes, first)?;
            if is_update {
                self.pass_over(&mut bytes, second)?;
            }
            // A table whose rows have no bytes would be counted for ever.
            if bytes.0.len() == left {
                return None;
            }
            rows = rows.saturating_add(1);
        }
        Some(rows)
    }

    fn pass_over(&self, bytes: &mut Bytes<'_>, present: &[u8]) -> Option<()> {
        let has = |map: &[u8], at: usize| map.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
        let count = (0..self.columns.len()).filter(|at| has(present, *at)).count();
        let nulls = bytes.take(count.div_ceil(8))?;
        let columns = self.columns.iter().enumerate().filter(|(at, _)| has(present, *at));
        for (at, (_, width)) in columns.enumerate() {
            if has(nulls, at) {
                continue;
            }
            let length = match *width {
                Width::Fixed(bytes) => bytes,
                Width::Counted(digits) => {
                    let digits = bytes.take(digits)?;
                    digits.iter().rev().fold(0, |length, digit| length << 8 | usize::from(*digit))
                }
            };
            bytes.take(length)?;
        }
        Some(())
    }
}

/// Which table an event is about.
fn table(bytes: &mut Bytes<'_>) -> Option<u64> {
    Some(u64::from(bytes.u32()?) | u64::from(bytes.u16()?) << 32)
}

/// A number of one to nine bytes.
fn number(bytes: &mut Bytes<'_>) -> Option<u64> {
    Some(match bytes.u8()? {
        small @ 0..=250 => small.into(),
        252 => bytes.u16()?.into(),
        253 => u64::from(bytes.u16()?) | u64::from(bytes.u8()?) << 16,
        254 => bytes.u64()?,
        _ => return None,
    })
}

/// `about` has more about some kinds of columns, in their order.
fn width(kind: u8, about: &mut Bytes<'_>) -> Option<Width> {
    let fraction = |about: &mut Bytes<'_>| Some(usize::from(about.u8()?.min(6)).div_ceil(2));
    let counted = |most: u16| Width::Counted(if most < 256 { 1 } else { 2 });
    Some(match kind {
        6 => Width::Fixed(0),
        1 | 13 => Width::Fixed(1),
        2 => Width::Fixed(2),
        9..=11 | 14 => Width::Fixed(3),
        3 | 7 => Width::Fixed(4),
        8 | 12 => Width::Fixed(8),
        // FLOAT and DOUBLE
        4 | 5 => Width::Fixed(about.u8()?.into()),
        // VARCHAR, VAR_STRING, and compressed ones
        15 | 253 | 141 => counted(about.u16()?),
        16 => {
            let (bits, bytes) = (about.u8()?, about.u8()?);
            Width::Fixed(usize::from(bytes) + usize::from(bits > 0))
        }
        // TIMESTAMP, DATETIME and TIME with fractions of a second
        17 => Width::Fixed(4 + fraction(about)?),
        18 => Width::Fixed(5 + fraction(about)?),
        19 => Width::Fixed(3 + fraction(about)?),
        246 => {
            let (precision, scale) = (usize::from(about.u8()?), usize::from(about.u8()?));
            let digits = |count: usize| count / 9 * 4 + (count % 9).div_ceil(2);
            Width::Fixed(digits(precision.checked_sub(scale)?) + digits(scale))
        }
        // The BLOBs and TEXTs, compressed ones, and GEOMETRY
        140 | 249..=252 | 255 => Width::Counted(usize::from(about.u8().filter(|digits| *digits <= 4)?)),
        // CHAR; ENUM and SET hide in it
        254 => {
            let (real, length) = (about.u8()?, about.u8()?);
            if matches!(real, 247 | 248) {
                Width::Fixed(length.into())
            } else {
                counted(u16::from(length) | (u16::from(real & 0x30) ^ 0x30) << 4)
            }
        }
        _ => return None,
    })
}
