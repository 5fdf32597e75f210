//! Answering the server's demands until it lets us in.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use bytes::{Buf as _, BufMut as _, Bytes};
use md5::{Digest as _, Md5};

use crate::connection::{Refusal, Talk};
use crate::password;
use crate::scram::{self, Binding};
use crate::wire::{Message, message, put_text, take_text};
use crate::{PostgresError, Target};

const PLUS: &str = "SCRAM-SHA-256-PLUS";
const PLAIN: &str = "SCRAM-SHA-256";

/// The channel below, as far as logging in cares.
#[derive(Debug, Clone)]
pub(crate) struct Channel {
    /// Nobody on the way can read a password.
    pub(crate) is_private: bool,
    /// What SCRAM binds to.
    pub(crate) end_point: Option<Vec<u8>>,
}

/// Logs in; ends with the server's "authentication is well".
pub(crate) async fn log_in(talk: &mut Talk, target: &Target, channel: &Channel) -> Result<(), PostgresError> {
    loop {
        let mut demand = demand(talk, target).await?;
        match demand.kind {
            0 => return Ok(()),
            3 if channel.is_private => {
                let password = needed(target)?;
                talk.send(&message(b'p', |body| put_text(body, &password))).await?;
            }
            3 => {
                return Err(not_let_in(
                    target,
                    "it wants the password in plain over a line that is not encrypted",
                ));
            }
            5 if demand.body.len() >= 4 => {
                let salt = demand.body.split_to(4);
                let password = needed(target)?;
                let inner = hex::encode(
                    Md5::new().chain_update(password.as_bytes()).chain_update(&target.user).finalize(),
                );
                let outer = hex::encode(Md5::new().chain_update(inner).chain_update(&salt).finalize());
                talk.send(&message(b'p', |body| put_text(body, &format!("md5{outer}")))).await?;
            }
            10 => scram(talk, target, channel, demand.body).await?,
            other => {
                return Err(not_let_in(
                    target,
                    &format!("its way of logging in (number {other}) is not known here; use scram-sha-256"),
                ));
            }
        }
    }
}

struct Demand {
    kind: u32,
    body: Bytes,
}

async fn demand(talk: &mut Talk, target: &Target) -> Result<Demand, PostgresError> {
    let Message { tag, mut body } = talk.next().await?;
    match tag {
        b'R' if body.len() >= 4 => Ok(Demand { kind: body.get_u32(), body }),
        b'E' => Err(not_let_in(target, &Refusal::parse(body).message)),
        other => Err(talk.protocol(format!("message {:?} while logging in", char::from(other)))),
    }
}

fn needed(target: &Target) -> Result<strongroom_server_line::Password, PostgresError> {
    password::find(target)?
        .ok_or_else(|| PostgresError::NoPassword { place: target.to_string(), user: target.user.clone() })
}

fn not_let_in(target: &Target, reason: &str) -> PostgresError {
    PostgresError::NotLetIn {
        place: target.to_string(),
        user: target.user.clone(),
        reason: reason.to_owned(),
    }
}

async fn scram(
    talk: &mut Talk,
    target: &Target,
    channel: &Channel,
    mut offered: Bytes,
) -> Result<(), PostgresError> {
    let mut mechanisms = Vec::new();
    while let Some(mechanism) = take_text(&mut offered).filter(|name| !name.is_empty()) {
        mechanisms.push(mechanism);
    }
    let offers = |name: &str| mechanisms.iter().any(|mechanism| mechanism == name);
    let (mechanism, binding) = match &channel.end_point {
        Some(hash) if offers(PLUS) => (PLUS, Binding::EndPoint(hash.clone())),
        Some(_) => (PLAIN, Binding::NotOffered),
        None => (PLAIN, Binding::None),
    };
    if !offers(mechanism) {
        return Err(not_let_in(target, "it offers no SCRAM-SHA-256"));
    }
    let mut random = [0; 18];
    SystemRandom::new().fill(&mut random).map_err(|_| not_let_in(target, "no randomness here"))?;
    let (begun, first) = scram::begin(needed(target)?, binding, &random);
    let length = i32::try_from(first.len()).expect("our first message is short");
    talk.send(&message(b'p', |body| {
        put_text(body, mechanism);
        body.put_i32(length);
        body.put_slice(first.as_bytes());
    }))
    .await?;
    let answer = continued(talk, target, 11).await?;
    let (proved, proof) = begun.prove(&answer).map_err(|reason| not_let_in(target, reason))?;
    talk.send(&message(b'p', |body| body.put_slice(proof.as_bytes()))).await?;
    let answer = continued(talk, target, 12).await?;
    proved.accept(&answer).map_err(|reason| not_let_in(target, reason))
}

async fn continued(talk: &mut Talk, target: &Target, kind: u32) -> Result<String, PostgresError> {
    let demand = demand(talk, target).await?;
    if demand.kind != kind {
        return Err(talk.protocol(format!("demand {} while logging in, expected was {kind}", demand.kind)));
    }
    Ok(String::from_utf8_lossy(&demand.body).into_owned())
}
