//! The greeting, and answering the server's demands until it lets us in.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use strongroom_server_line::Password;

use crate::connection::{Talk, refusal};
use crate::wire::{LONGEST, take_text};
use crate::{MariadbError, Target};

/// What we can do, and ask of the server, by its bits: long passwords, protocol 4.1, transactions, log-in in parts, plugins.
const ABILITIES: u32 = 0x1 | 0x200 | 0x2000 | 0x8000 | 0x8_0000;
pub(crate) const TLS: u32 = 0x800;

/// `utf8mb4_general_ci`
const CHARACTERS: u8 = 45;

const NATIVE: &str = "mysql_native_password";

/// What the server says first.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) version: String,
    pub(crate) abilities: u32,
    salt: Vec<u8>,
    plugin: String,
}

impl Greeting {
    pub(crate) fn parse(mut body: Bytes) -> Option<Self> {
        if body.try_get_u8().ok()? != 10 {
            return None;
        }
        let version = take_text(&mut body);
        // The number of the connection, 8 bytes of salt, zero, abilities, characters, state, abilities, length of salt, 10 spare.
        if body.len() < 4 + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10 {
            return None;
        }
        body.advance(4);
        let mut salt = body.split_to(8).to_vec();
        body.advance(1);
        let lower = body.get_u16_le();
        body.advance(3);
        let upper = body.get_u16_le();
        let length = usize::from(body.get_u8());
        body.advance(10);
        let more = length.saturating_sub(8).max(13).min(body.len());
        salt.extend(body.split_to(more));
        // It ends with a zero.
        salt.truncate(20);
        let plugin = take_text(&mut body);
        Some(Self { version, abilities: u32::from(upper) << 16 | u32::from(lower), salt, plugin })
    }
}

/// The first words of an answer: with [`TLS`] alone they ask for it.
pub(crate) fn head(more: u32) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_u32_le(ABILITIES | more);
    // Fits: 24 bits.
    body.put_u32_le(u32::try_from(LONGEST).unwrap_or(u32::MAX));
    body.put_u8(CHARACTERS);
    body.put_bytes(0, 23);
    body
}

/// Logs in; ends with the server's "well".
pub(crate) async fn log_in(
    talk: &mut Talk,
    target: &Target,
    greeting: &Greeting,
    is_encrypted: bool,
) -> Result<(), MariadbError> {
    let password = match &target.password_file {
        None => None,
        Some(path) => Some(
            strongroom_server_line::first_line(path)
                .map_err(|error| MariadbError::PasswordFile { path: error.path, reason: error.reason })?,
        ),
    };
    let mut body = head(if is_encrypted { TLS } else { 0 });
    body.put_slice(target.user.as_bytes());
    body.put_u8(0);
    // Another plugin is asked for again by its name.
    let answer =
        if greeting.plugin == NATIVE { native(password.as_ref(), &greeting.salt) } else { Vec::new() };
    body.put_u8(u8::try_from(answer.len()).unwrap_or_default());
    body.put_slice(&answer);
    body.put_slice(NATIVE.as_bytes());
    body.put_u8(0);
    talk.send(&body).await?;
    // A server may ask once for another way; whoever asks more often never ends.
    for _ in 0..4 {
        let mut packet = talk.next().await?;
        match packet.first() {
            Some(0x00) => return Ok(()),
            Some(0xFF) => {
                let (_, reason) = refusal(packet);
                return Err(not_let_in(target, reason));
            }
            Some(0xFE) if packet.len() > 1 => {
                packet.advance(1);
                let plugin = take_text(&mut packet);
                let mut salt = packet.to_vec();
                salt.truncate(20);
                match plugin.as_str() {
                    NATIVE => talk.send(&native(password.as_ref(), &salt)).await?,
                    // The server asks the kernel who we are.
                    "auth_socket" | "unix_socket" => talk.send(&[]).await?,
                    other => {
                        let reason =
                            format!("its way of logging in ({other}) is not known here; use {NATIVE}");
                        return Err(not_let_in(target, reason));
                    }
                }
            }
            _ => return Err(not_let_in(target, format!("its way of logging in is too old; use {NATIVE}"))),
        }
    }
    Err(talk.protocol("a log-in that does not end"))
}

fn not_let_in(target: &Target, reason: String) -> MariadbError {
    MariadbError::NotLetIn { place: target.to_string(), user: target.user.clone(), reason }
}

/// SHA1(password) XOR SHA1(salt, SHA1(SHA1(password))); nothing where there is no password.
fn native(password: Option<&Password>, salt: &[u8]) -> Vec<u8> {
    let Some(password) = password.filter(|password| !password.is_empty()) else { return Vec::new() };
    let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let once = sha1(password.as_bytes());
    let twice = sha1(once.as_ref());
    let mask = sha1(&[salt, twice.as_ref()].concat());
    once.as_ref().iter().zip(mask.as_ref()).map(|(one, other)| one ^ other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_that_ends_early_is_none() {
        let mut whole = BytesMut::new();
        whole.put_u8(10);
        whole.put_slice(b"10.11.19-MariaDB\0\x01\0\0\0saltsalt\0\xfe\xf7\x2d\x02\0\xff\x81\x15");
        whole.put_bytes(0, 10);
        whole.put_slice(b"moresaltmore\0mysql_native_password\0");
        let whole = whole.freeze();
        let greeting = Greeting::parse(whole.clone()).unwrap();
        assert_eq!((greeting.version.as_str(), greeting.plugin.as_str()), ("10.11.19-MariaDB", NATIVE));
        assert_eq!(greeting.salt, b"saltsaltmoresaltmore");
        for cut in 0..17 + 4 + 9 + 18 {
            assert!(Greeting::parse(whole.slice(..cut)).is_none(), "{cut}");
        }
    }
}
