//! Packets on the wire: a length of three bytes, a number, a body. Bounded, and read as many at a time as have come.

use std::io;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// A body of so many bytes goes on in the next packet. It is also the most that one packet takes of memory.
pub(crate) const LONGEST: usize = 0xFF_FFFF;

/// What a connection runs over.
pub(crate) trait Line: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Line for T {}

/// A line, and what was read of it ahead.
pub(crate) struct Wire {
    line: Box<dyn Line>,
    buffer: BytesMut,
    /// The number of the packet that comes next, from either side.
    next: u8,
}

impl Wire {
    /// `next`: the number of the packet that comes next.
    pub(crate) fn new(line: Box<dyn Line>, next: u8) -> Self {
        Self { line, buffer: BytesMut::new(), next }
    }

    /// The next packet, if all of it is here already; no waiting.
    pub(crate) fn ready(&mut self) -> io::Result<Option<Bytes>> {
        let Some((head, _)) = self.buffer.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
        if head[3] != self.next {
            let what = format!("packet {} where {} comes next", head[3], self.next);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        if self.buffer.len() < 4 + length {
            self.buffer.reserve(4 + length - self.buffer.len());
            return Ok(None);
        }
        self.next = self.next.wrapping_add(1);
        let mut whole = self.buffer.split_to(4 + length);
        whole.advance(4);
        Ok(Some(whole.freeze()))
    }

    /// The next packet. May be dropped while it waits: nothing is lost.
    pub(crate) async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(packet) = self.ready()? {
                return Ok(packet);
            }
            self.buffer.reserve(64 << 10);
            if self.line.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends a packet that answers the last one.
    pub(crate) async fn send(&mut self, body: &[u8]) -> io::Result<()> {
        let packet = packet(self.next, body)?;
        self.next = self.next.wrapping_add(1);
        self.line.write_all(&packet).await?;
        self.line.flush().await
    }

    /// Sends a command: numbers begin anew with it.
    pub(crate) async fn command(&mut self, body: &[u8]) -> io::Result<()> {
        self.next = 0;
        self.send(body).await
    }
}

/// A packet. Ours are short: commands and answers at log-in.
pub(crate) fn packet(number: u8, body: &[u8]) -> io::Result<BytesMut> {
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() < LONGEST);
    let length = length.ok_or_else(|| io::Error::other("a command that is too long"))?;
    let mut out = BytesMut::with_capacity(4 + body.len());
    out.put_uint_le(length.into(), 3);
    out.put_u8(number);
    out.put_slice(body);
    Ok(out)
}

/// Takes text up to a zero byte, or to the end where there is none.
pub(crate) fn take_text(body: &mut Bytes) -> String {
    let end = body.iter().position(|byte| *byte == 0);
    let text = body.split_to(end.unwrap_or(body.len()));
    if end.is_some() {
        body.advance(1);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A number of one to nine bytes, as lengths are written in rows; `None`: there is no value here, or the packet is short.
pub(crate) fn take_length(body: &mut Bytes) -> Option<Length> {
    let length = match body.try_get_u8().ok()? {
        0xFB => return Some(Length::Null),
        0xFC => u64::from(body.try_get_u16_le().ok()?),
        0xFD if body.len() >= 3 => body.get_uint_le(3),
        0xFE => body.try_get_u64_le().ok()?,
        small @ 0..=0xFA => u64::from(small),
        _ => return None,
    };
    usize::try_from(length).ok().map(Length::Of)
}

/// A length in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Null,
    Of(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_come_whole_and_in_order_however_they_were_cut_on_the_way() {
        let (mut theirs, ours) = tokio::io::duplex(3);
        let mut wire = Wire::new(Box::new(ours), 0);
        tokio::spawn(async move {
            for number in [0, 1, 3] {
                theirs.write_all(&packet(number, b"content").unwrap()).await.unwrap();
            }
        });
        for _ in 0..2 {
            assert_eq!(&wire.next().await.unwrap()[..], b"content");
        }
        assert!(wire.next().await.is_err(), "number 2 is missing");
    }

    #[test]
    fn lengths_are_read_in_all_their_forms() {
        let read = |bytes: &[u8]| take_length(&mut Bytes::copy_from_slice(bytes));
        assert_eq!(read(&[250]), Some(Length::Of(250)));
        assert_eq!(read(&[0xFC, 1, 1]), Some(Length::Of(257)));
        assert_eq!(read(&[0xFD, 0, 0, 1]), Some(Length::Of(65536)));
        assert_eq!(read(&[0xFE, 1, 0, 0, 0, 0, 0, 0, 0]), Some(Length::Of(1)));
        assert_eq!(read(&[0xFB]), Some(Length::Null));
        for short in [&[][..], &[0xFC, 1], &[0xFD, 1, 1], &[0xFE, 1], &[0xFF]] {
            assert_eq!(read(short), None);
        }
    }
}
