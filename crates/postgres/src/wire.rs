//! Messages on the wire: a letter, a length, a body. Bounded, and read as many at a time as have come.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// A server sends at most 128 KiB of log in a message; rows and errors of ours are smaller.
const LARGEST_BYTES: usize = 16 << 20;

/// What a connection runs over.
pub(crate) trait Line: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Line for T {}

/// One message of the server.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) tag: u8,
    pub(crate) body: Bytes,
}

/// A line, and what was read of it ahead.
pub(crate) struct Wire {
    line: Box<dyn Line>,
    buffer: BytesMut,
}

impl Wire {
    pub(crate) fn new(line: Box<dyn Line>) -> Self {
        Self { line, buffer: BytesMut::new() }
    }

    /// The next message, if all of it is here already; no waiting.
    pub(crate) fn ready(&mut self) -> std::io::Result<Option<Message>> {
        let Some((head, _)) = self.buffer.split_first_chunk::<5>() else { return Ok(None) };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if !(4..=LARGEST_BYTES).contains(&length) {
            let what = format!("a message of {length} bytes");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
        }
        if self.buffer.len() < 1 + length {
            self.buffer.reserve(1 + length - self.buffer.len());
            return Ok(None);
        }
        let mut whole = self.buffer.split_to(1 + length);
        let tag = whole[0];
        whole.advance(5);
        Ok(Some(Message { tag, body: whole.freeze() }))
    }

    /// The next message. May be dropped while it waits: nothing is lost.
    pub(crate) async fn next(&mut self) -> std::io::Result<Message> {
        loop {
            if let Some(message) = self.ready()? {
                return Ok(message);
            }
            self.buffer.reserve(64 << 10);
            if self.line.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.line.write_all(bytes).await?;
        self.line.flush().await
    }
}

/// A message of ours.
pub(crate) fn message(tag: u8, body: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(tag);
    sized(&mut out, body);
    out
}

/// A message without a letter: the first ones of a connection.
pub(crate) fn untagged(body: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    sized(&mut out, body);
    out
}

fn sized(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - at).expect("our messages are small");
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Text that ends with a zero byte.
pub(crate) fn put_text(out: &mut BytesMut, text: &str) {
    out.put_slice(text.as_bytes());
    out.put_u8(0);
}

/// Takes text up to a zero byte.
pub(crate) fn take_text(body: &mut Bytes) -> Option<String> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let text = body.split_to(end);
    body.advance(1);
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_whole_however_they_were_cut_on_the_way() {
        let (mut theirs, ours) = tokio::io::duplex(3);
        let mut wire = Wire::new(Box::new(ours));
        let sent = message(b'd', |body| body.put_slice(b"content"));
        tokio::spawn(async move {
            theirs.write_all(&sent).await.unwrap();
            theirs.write_all(&sent).await.unwrap();
        });
        for _ in 0..2 {
            let got = wire.next().await.unwrap();
            assert_eq!((got.tag, &got.body[..]), (b'd', &b"content"[..]));
        }
        assert!(wire.next().await.is_err(), "the end");
    }

    #[tokio::test]
    async fn a_message_of_an_absurd_length_ends_the_connection_before_memory_is_taken() {
        for length in [0_u32, 3, u32::MAX] {
            let (mut theirs, ours) = tokio::io::duplex(64);
            let mut wire = Wire::new(Box::new(ours));
            theirs.write_all(&[&[b'd'][..], &length.to_be_bytes()].concat()).await.unwrap();
            assert!(wire.next().await.is_err());
        }
    }
}
