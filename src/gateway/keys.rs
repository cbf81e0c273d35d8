//! API keys: how they are made, written, checked and kept. Pure but for the random bits, which the caller brings.
//!
//! A key reads `rsk_<handle>_<secret>_<checksum>`: the handle names the user's record, so that a key is looked up by one
//! `get`; the secret is 256 random bits; the checksum tells a mistyped key from an unknown one without a look-up, and
//! lets scanners find leaked keys. Only the SHA-256 of the whole key is kept. A plain hash suffices, because nobody
//! guesses 256 random bits.

use std::fmt;
use std::time::Duration;

use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every key begins with.
pub const PREFIX: &str = "rsk_";

/// How many keys of one user may open at a time. The oldest go first.
pub const MAX_KEYS: usize = 4;

/// Characters of a handle: 128 bits in base32.
const HANDLE: usize = 26;
/// Characters of a secret: 256 bits in base32.
const SECRET: usize = 52;
/// Characters of a checksum: 35 bits in base32.
const CHECKSUM: usize = 7;

/// A key that cannot be one, because it was cut or mistyped. Holds nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not of the form of a key.
    #[error("this is not an API key: one reads `rsk_…_…_…` and has 91 characters")]
    Form,
    /// The checksum does not fit.
    #[error("the API key is mistyped or cut: its checksum does not fit")]
    Checksum,
}

/// An API key. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    text: String,
}

impl ApiKey {
    /// The key of the user of `handle` with these random bits.
    #[must_use]
    pub fn new(handle: &str, random: &[u8; 32]) -> Self {
        let body = format!("{PREFIX}{handle}_{}", base32(random));
        Self { text: format!("{body}_{}", checksum(&body)) }
    }

    /// Reads a key that was sent.
    ///
    /// # Errors
    /// [`KeyError`]: the text is no key, whoever's. Whether a key opens is [`opens`]'s to say.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut parts = text.strip_prefix(PREFIX).ok_or(KeyError::Form)?.split('_');
        let (Some(handle), Some(secret), Some(check), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(KeyError::Form);
        };
        if !is_base32(handle, HANDLE) || !is_base32(secret, SECRET) || !is_base32(check, CHECKSUM) {
            return Err(KeyError::Form);
        }
        let body = &text[..text.len() - CHECKSUM - 1];
        if checksum(body) == check { Ok(Self { text: text.to_owned() }) } else { Err(KeyError::Checksum) }
    }

    /// Which user's record to look at.
    #[must_use]
    pub fn handle(&self) -> &str {
        &self.text[PREFIX.len()..PREFIX.len() + HANDLE]
    }

    /// The key itself, for the one answer that shows it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(self.text.as_bytes()).into())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({PREFIX}{}_…)", self.handle())
    }
}

/// SHA-256 of a key, written in hex. Compared in constant time.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyHash([u8; 32]);

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyHash {}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> Self {
        HEXLOWER.encode(&hash.0)
    }
}

impl TryFrom<String> for KeyHash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| "a key's hash has 64 hex digits".to_owned())
    }
}

/// A key as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredKey {
    /// SHA-256 of the key.
    pub sha256: KeyHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it no longer opens; never without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// Whether a key with this hash opens. Looks at every stored key, whichever fits.
#[must_use]
pub fn opens(keys: &[StoredKey], hash: &KeyHash, now: Timestamp) -> bool {
    let live = keys.iter().filter(|key| key.expires_at.is_none_or(|end| now < end));
    live.filter(|key| key.sha256 == *hash).count() > 0
}

/// The keys once `presented` was exchanged for `new`: the new one, and the presented one for `overlap` longer, so that
/// servers can be moved over one by one. A time that was already set is not put off. Every other key ends now: what was
/// exchanged before, and a new key that never reached its owner because the answer was lost.
#[must_use]
pub fn rotated(
    keys: &[StoredKey],
    presented: &KeyHash,
    new: KeyHash,
    overlap: Duration,
    now: Timestamp,
) -> Vec<StoredKey> {
    let end = now.saturating_add(jiff::SignedDuration::try_from(overlap).unwrap_or(jiff::SignedDuration::MAX));
    let end = end.unwrap_or(Timestamp::MAX);
    let kept = keys
        .iter()
        .filter(|key| key.sha256 == *presented)
        .map(|key| StoredKey { expires_at: Some(key.expires_at.map_or(end, |set| set.min(end))), ..key.clone() });
    let kept = kept.filter(|key| key.expires_at.is_none_or(|end| now < end));
    [StoredKey { sha256: new, created_at: now, expires_at: None }].into_iter().chain(kept).take(MAX_KEYS).collect()
}

/// The handle of an e-mail address: 128 bits of SHA-256 over it in lower case. Two sign-ups with one address meet in one
/// record, whose name the API server gives away once.
#[must_use]
pub fn handle_of(email: &str) -> String {
    base32(&Sha256::digest(email.to_lowercase().as_bytes())[..16])
}

/// A random UUID (version 4) of these bits.
#[must_use]
pub fn uuid(mut random: [u8; 16]) -> String {
    random[6] = (random[6] & 0x0f) | 0x40;
    random[8] = (random[8] & 0x3f) | 0x80;
    let hex = HEXLOWER.encode(&random);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Characters of the checksum of everything before it.
fn checksum(body: &str) -> String {
    let mut sum = base32(&Sha256::digest(body.as_bytes())[..5]);
    sum.truncate(CHECKSUM);
    sum
}

fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn is_base32(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn key(byte: u8) -> ApiKey {
        ApiKey::new(&handle_of("user@example.com"), &[byte; 32])
    }

    fn stored(key: &ApiKey) -> StoredKey {
        StoredKey { sha256: key.hash(), created_at: NOW, expires_at: None }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_key_opens_only_where_its_hash_is_kept_and_before_its_end() {
        let (mine, other) = (key(1), key(2));
        let kept = vec![StoredKey { expires_at: Some(at(10)), ..stored(&mine) }];
        assert!(opens(&kept, &mine.hash(), at(9)));
        assert!(!opens(&kept, &mine.hash(), at(10)));
        assert!(!opens(&kept, &other.hash(), at(9)));
        assert!(!opens(&[], &mine.hash(), at(0)));
    }

    #[test]
    fn after_a_rotation_both_keys_open_until_the_overlap_is_over_and_then_only_the_new_one() {
        let (old, new) = (key(1), key(2));
        let keys = rotated(&[stored(&old)], &old.hash(), new.hash(), Duration::from_secs(60), at(100));
        for (now, old_opens) in [(100, true), (159, true), (160, false)] {
            assert_eq!(opens(&keys, &old.hash(), at(now)), old_opens, "{now}");
            assert!(opens(&keys, &new.hash(), at(now)));
        }
    }

    #[test]
    fn without_an_overlap_the_old_key_ends_at_once() {
        let (old, new) = (key(1), key(2));
        let keys = rotated(&[stored(&old)], &old.hash(), new.hash(), Duration::ZERO, at(100));
        assert_eq!(keys.iter().map(|key| &key.sha256).collect::<Vec<_>>(), [&new.hash()]);
    }

    #[test]
    fn rotating_again_with_the_old_key_drops_the_lost_one_and_puts_nothing_off() {
        let (old, lost, new) = (key(1), key(2), key(3));
        let hour = Duration::from_secs(3600);
        let once = rotated(&[stored(&old)], &old.hash(), lost.hash(), hour, at(0));
        let twice = rotated(&once, &old.hash(), new.hash(), hour, at(1800));
        assert!(opens(&twice, &new.hash(), at(1800)));
        assert!(!opens(&twice, &lost.hash(), at(1800)));
        assert!(opens(&twice, &old.hash(), at(3599)));
        assert!(!opens(&twice, &old.hash(), at(3600)));
    }

    #[test]
    fn one_address_has_one_handle_however_it_is_spelled() {
        assert_eq!(handle_of("User@Example.COM"), handle_of("user@example.com"));
        assert_ne!(handle_of("user@example.com"), handle_of("user2@example.com"));
    }

    #[test]
    fn neither_key_nor_hash_is_ever_printed() {
        let printed = format!("{:?} {:?}", key(1), stored(&key(1)));
        assert!(!printed.contains(&key(1).expose()[PREFIX.len() + HANDLE..]), "{printed}");
        assert!(!printed.contains(&String::from(key(1).hash())), "{printed}");
    }

    #[test]
    fn an_id_is_a_uuid_of_version_4() {
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
    }

    proptest! {
        #[test]
        fn every_key_reads_back_and_names_its_record(email in "[a-z]{1,9}@[a-z]{1,9}", random in any::<[u8; 32]>()) {
            let made = ApiKey::new(&handle_of(&email), &random);
            let read = ApiKey::parse(made.expose()).unwrap();
            prop_assert_eq!(made.expose().len(), 91);
            prop_assert_eq!(read.handle(), handle_of(&email));
            prop_assert_eq!(read.hash(), made.hash());
        }

        #[test]
        fn a_key_with_one_other_character_is_malformed_and_never_merely_unknown(
            random in any::<[u8; 32]>(), place in 0_usize..91, with in "[ -~]"
        ) {
            let made = ApiKey::new(&handle_of("user@example.com"), &random);
            let mut text = made.expose().to_owned();
            text.replace_range(place..=place, &with);
            prop_assume!(text != made.expose());
            prop_assert!(ApiKey::parse(&text).is_err(), "{text}");
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,120}") {
            let _ = ApiKey::parse(&text);
            let _ = ApiKey::parse(&format!("{PREFIX}{text}"));
        }

        #[test]
        fn a_stored_key_reads_back(random in any::<[u8; 32]>(), end in proptest::option::of(0_i64..1 << 32)) {
            let key = StoredKey {
                expires_at: end.map(at),
                ..stored(&ApiKey::new(&handle_of("user@example.com"), &random))
            };
            let text = serde_json::to_string(&key).unwrap();
            prop_assert_eq!(serde_json::from_str::<StoredKey>(&text).unwrap(), key);
        }
    }
}
