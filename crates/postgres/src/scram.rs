//! SCRAM-SHA-256 (RFC 5802, RFC 7677), with binding to the TLS channel (RFC 5929, `tls-server-end-point`).
//!
//! Pure: text in, text out. The server proves that it knows the password as well, so a stranger in its place is noticed.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use strongroom_server_line::Password;

/// More would keep us busy for a stranger; PostgreSQL's own default is 4096.
const MOST_ITERATIONS: u32 = 4_000_000;

/// How the exchange is bound to the channel below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Binding {
    /// There is no encrypted channel, or none that can be bound to.
    None,
    /// We could bind, and the server did not offer to.
    NotOffered,
    /// To the hash of the server's certificate.
    EndPoint(Vec<u8>),
}

impl Binding {
    const fn header(&self) -> &'static str {
        match self {
            Self::None => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }
}

/// Our first message went out.
pub(crate) struct Begun {
    password: Password,
    binding: Binding,
    nonce: String,
}

/// Our proof went out; what the server has to answer.
pub(crate) struct Proved {
    signature: hmac::Tag,
}

/// Begins. `random` are at least 18 random bytes.
pub(crate) fn begin(password: Password, binding: Binding, random: &[u8]) -> (Begun, String) {
    let nonce = BASE64.encode(random);
    let first = format!("{}n=,r={nonce}", binding.header());
    (Begun { password, binding, nonce }, first)
}

impl Begun {
    /// Answers the server's first message.
    pub(crate) fn prove(self, server_first: &str) -> Result<(Proved, String), &'static str> {
        let mut fields = server_first.split(',');
        let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name));
        let nonce = field("r=").ok_or("it sent no nonce")?;
        let salt = field("s=").and_then(|salt| BASE64.decode(salt).ok()).ok_or("it sent no salt")?;
        let iterations =
            field("i=").and_then(|count| count.parse::<NonZeroU32>().ok()).ok_or("it sent no count")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("it answered another exchange");
        }
        if iterations.get() > MOST_ITERATIONS {
            return Err("it wants too many iterations");
        }
        let mut salted = Zeroizing::new([0; 32]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, self.password.as_bytes(), &mut *salted);
        let salted = hmac::Key::new(hmac::HMAC_SHA256, &*salted);
        let client_key = hmac::sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        let mut bound = self.binding.header().as_bytes().to_vec();
        if let Binding::EndPoint(hash) = &self.binding {
            bound.extend_from_slice(hash);
        }
        let without_proof = format!("c={},r={nonce}", BASE64.encode(bound));
        let spoken = format!("n=,r={},{server_first},{without_proof}", self.nonce);
        let signature =
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, stored_key.as_ref()), spoken.as_bytes());
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, mask)| key ^ mask).collect();
        let server_key = hmac::sign(&salted, b"Server Key");
        let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, server_key.as_ref()), spoken.as_bytes());
        Ok((Proved { signature: expected }, format!("{without_proof},p={}", BASE64.encode(proof))))
    }
}

impl Proved {
    /// Whether the server knows the password too.
    pub(crate) fn accept(&self, server_final: &str) -> Result<(), &'static str> {
        let signature = server_final.split(',').next().and_then(|field| field.strip_prefix("v="));
        let signature = signature.and_then(|text| BASE64.decode(text).ok()).ok_or("it proved nothing")?;
        constant_time::verify_slices_are_equal(&signature, self.signature.as_ref())
            .map_err(|_| "it does not know the password itself: somebody else answers in its place")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange() -> Begun {
        // The example of RFC 7677, but for the name, which PostgreSQL leaves empty.
        Begun {
            password: Zeroizing::new("pencil".into()),
            binding: Binding::None,
            nonce: "rOprNGfwEbeRWgbNEkqO".into(),
        }
    }

    const FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn the_proof_is_a_function_of_password_and_nonces() {
        let (proved, answer) = exchange().prove(FIRST).unwrap();
        assert!(answer.starts_with("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p="));
        let right = format!("v={}", BASE64.encode(proved.signature.as_ref()));
        assert_eq!(proved.accept(&right), Ok(()));
        assert!(proved.accept("v=AAAA").is_err() && proved.accept("e=other-error").is_err());
    }

    #[test]
    fn a_server_that_answers_another_exchange_is_refused() {
        let other = FIRST.replace("rOpr", "xxxx");
        assert!(exchange().prove(&other).is_err());
        assert!(exchange().prove(&FIRST.replace("4096", "999999999")).is_err());
        assert!(exchange().prove("r=rOprNGfwEbeRWgbNEkqO,s=,i=1").is_err(), "it added nothing");
    }
}
