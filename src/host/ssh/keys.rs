//! Keys: our own pair, and the hosts' public keys that we believe.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey};

use super::Error;

/// Our key pair. Its secret half is shown by [`KeyPair::to_openssh`] alone.
#[derive(Clone)]
pub struct KeyPair {
    private: Arc<PrivateKey>,
}

impl KeyPair {
    /// A new Ed25519 pair. `comment` ends its public line and tells people whose it is.
    ///
    /// # Errors
    /// If the comment cannot stand in a key.
    pub fn generate(comment: &str) -> Result<Self, Error> {
        if comment.contains(char::is_control) {
            return Err(Error::Invalid("the comment of an SSH key holds no control characters".to_owned()));
        }
        let mut private = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519)
            .map_err(|error| Error::Invalid(format!("cannot make an SSH key: {error}")))?;
        private.set_comment(comment);
        Ok(Self { private: Arc::new(private) })
    }

    /// The pair in an OpenSSH private key file: Ed25519 or ECDSA, without a passphrase.
    ///
    /// # Errors
    /// If the text is anything else. The message never quotes it.
    pub fn from_openssh(text: &str) -> Result<Self, Error> {
        let invalid = |why: &str| Error::Invalid(format!("the SSH private key {why}"));
        // A Secret made from a file keeps its line ends as they are; one typed in often lacks the last.
        let text = format!("{}\n", text.replace("\r\n", "\n").trim());
        let private = PrivateKey::from_openssh(&text)
            .map_err(|_| invalid("is not in OpenSSH's format: it begins with `-----BEGIN OPENSSH PRIVATE KEY-----`"))?;
        if private.is_encrypted() {
            return Err(invalid("has a passphrase: give one without (`ssh-keygen -p -N ''`)"));
        }
        if !supported(&private.algorithm()) {
            return Err(invalid("is neither Ed25519 nor ECDSA: make one with `ssh-keygen -t ed25519`"));
        }
        Ok(Self { private: Arc::new(private) })
    }

    /// The private key file: a secret.
    ///
    /// # Errors
    /// Never for a pair that was generated or read here.
    pub fn to_openssh(&self) -> Result<String, Error> {
        let text = self.private.to_openssh(LineEnding::LF);
        text.map(|text| text.to_string())
            .map_err(|error| Error::Invalid(format!("the SSH key cannot be written: {error}")))
    }

    /// The line for `authorized_keys`.
    #[must_use]
    pub fn public_line(&self) -> String {
        line(self.private.public_key())
    }

    /// The public half's SHA-256 fingerprint, as `ssh-keygen -l` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.private.public_key().fingerprint(HashAlg::Sha256).to_string()
    }

    /// The pair as the library wants it.
    pub(super) fn private(&self) -> Arc<PrivateKey> {
        Arc::clone(&self.private)
    }
}

impl PartialEq for KeyPair {
    fn eq(&self, other: &Self) -> bool {
        // The public half determines the private one.
        self.private.public_key().key_data() == other.private.public_key().key_data()
    }
}

impl Eq for KeyPair {}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.fingerprint())
    }
}

/// A host's public key. Equal to every other line of the same key, whatever the comment.
#[derive(Clone)]
pub struct HostKey {
    key: PublicKey,
}

impl HostKey {
    pub(super) fn new(key: PublicKey) -> Self {
        Self { key }
    }

    /// Type and base64 without a comment: what to keep, and to pin.
    #[must_use]
    pub fn line(&self) -> String {
        line(&PublicKey::from(self.key.key_data().clone()))
    }

    /// Type and SHA-256 fingerprint, as `ssh-keygen -l` shows them.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{} {}", self.key.algorithm(), self.key.fingerprint(HashAlg::Sha256))
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }
}

impl FromStr for HostKey {
    type Err = Error;

    /// A line as in `/etc/ssh/ssh_host_ed25519_key.pub`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |why: &str| {
            Error::Invalid(format!("`{}` is no usable host key: {why}", text.escape_debug().to_string().trim()))
        };
        let key = PublicKey::from_openssh(text.trim())
            .map_err(|_| invalid("give a line as in /etc/ssh/ssh_host_ed25519_key.pub, without a host's name"))?;
        if !supported(&key.algorithm()) {
            return Err(invalid("only Ed25519 and ECDSA keys are supported"));
        }
        Ok(Self { key })
    }
}

impl PartialEq for HostKey {
    fn eq(&self, other: &Self) -> bool {
        self.key.key_data() == other.key.key_data()
    }
}

impl Eq for HostKey {}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({})", self.fingerprint())
    }
}

/// Which host keys are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostKeys {
    /// These and no other. None at all believes no host.
    Pinned(Vec<HostKey>),
    /// Whichever the host offers: for the first contact alone, after which [`super::Session::host_key`] is to be pinned.
    TrustOnFirstUse,
}

impl HostKeys {
    /// Pins the keys of these lines; empty ones and comments are skipped.
    ///
    /// # Errors
    /// If a line is no key, or there is none.
    pub fn pinned<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let lines = lines.into_iter().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys = lines.map(str::parse).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(Error::Invalid("no host key is given to pin".to_owned()));
        }
        Ok(Self::Pinned(keys))
    }

    /// Whether a host with this key is believed.
    #[must_use]
    pub fn accept(&self, key: &HostKey) -> bool {
        match self {
            Self::Pinned(keys) => keys.contains(key),
            Self::TrustOnFirstUse => true,
        }
    }

    /// The fingerprints of the pinned keys, in words.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Pinned(keys) if keys.is_empty() => "none".to_owned(),
            Self::Pinned(keys) => keys.iter().map(HostKey::fingerprint).collect::<Vec<_>>().join(", "),
            Self::TrustOnFirstUse => "the key of the first contact".to_owned(),
        }
    }

    /// The types to ask the host for, those of the pinned keys first: a host has several keys and shows one of them.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        let pinned = match self {
            Self::Pinned(keys) => keys.iter().map(HostKey::algorithm).collect(),
            Self::TrustOnFirstUse => Vec::new(),
        };
        let known = russh::Preferred::DEFAULT.key;
        let (mut first, rest): (Vec<_>, Vec<_>) =
            known.iter().filter(|known| supported(known)).cloned().partition(|known| pinned.contains(known));
        first.extend(rest);
        first
    }
}

/// The types of keys that the library, as it is built here, can sign with and verify.
fn supported(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Ed25519 | Algorithm::Ecdsa { .. })
}

fn line(key: &PublicKey) -> String {
    key.to_openssh().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_key() -> HostKey {
        KeyPair::generate("host").unwrap().public_line().parse().unwrap()
    }

    #[test]
    fn a_key_pair_survives_its_file_and_never_shows_its_secret() {
        let pair = KeyPair::generate("roadstead shop").unwrap();
        let file = pair.to_openssh().unwrap();
        assert!(file.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"));
        for text in [file.clone(), file.replace('\n', "\r\n"), file.trim().to_owned()] {
            let read = KeyPair::from_openssh(&text).unwrap();
            assert_eq!(read, pair);
            assert_eq!(read.public_line(), pair.public_line());
        }
        assert!(pair.public_line().starts_with("ssh-ed25519 AAAA"));
        assert!(pair.public_line().ends_with(" roadstead shop"));
        let shown = format!("{pair:?}");
        assert!(shown.contains("SHA256:"), "{shown}");
        let secret: String = file.lines().filter(|line| !line.starts_with('-')).collect();
        assert!(!secret.contains(&shown) && !shown.contains(&secret[..20]));
    }

    #[test]
    fn every_pair_is_another() {
        assert_ne!(KeyPair::generate("a").unwrap(), KeyPair::generate("a").unwrap());
    }

    #[test]
    fn what_is_no_private_key_is_refused_without_being_quoted() {
        let pair = KeyPair::generate("x").unwrap();
        let cut: String = pair.to_openssh().unwrap().chars().take(150).collect();
        for text in ["", "hunter2", cut.as_str(), pair.public_line().as_str()] {
            let error = KeyPair::from_openssh(text).unwrap_err().to_string();
            assert!(error.contains("OpenSSH's format"), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        assert!(KeyPair::generate("two\nlines").is_err());
    }

    #[test]
    fn a_pinned_key_is_known_by_its_bytes_and_not_by_its_comment() {
        let (mine, other) = (host_key(), host_key());
        let text = format!("\n# from the console\n{} root@vm\n", mine.line());
        let keys = HostKeys::pinned(text.lines()).unwrap();
        assert!(keys.accept(&mine));
        assert!(!keys.accept(&other));
        assert!(HostKeys::TrustOnFirstUse.accept(&other));
        assert!(keys.describe().contains(&mine.fingerprint()));
    }

    #[test]
    fn what_is_no_host_key_is_refused() {
        for text in ["ssh-ed25519", "web.example.com ssh-ed25519 AAAA", "ssh-ed25519 AAAA", "SHA256:abc"] {
            assert!(HostKeys::pinned([text]).unwrap_err().to_string().contains("ssh_host_ed25519_key.pub"), "{text}");
        }
        assert!(HostKeys::pinned(["", "# none"]).is_err());
        assert!(!HostKeys::Pinned(Vec::new()).accept(&host_key()));
    }

    #[test]
    fn the_types_of_pinned_keys_are_asked_for_first() {
        assert_eq!(HostKeys::TrustOnFirstUse.algorithms()[0], Algorithm::Ed25519);
        let ecdsa = PrivateKey::random(
            &mut russh::keys::key::safe_rng(),
            Algorithm::Ecdsa { curve: russh::keys::EcdsaCurve::NistP256 },
        );
        let key = HostKey::new(ecdsa.unwrap().public_key().clone());
        let algorithms = HostKeys::Pinned(vec![key.clone()]).algorithms();
        assert_eq!(algorithms[0], key.algorithm());
        assert_eq!(algorithms.len(), 4, "{algorithms:?}");
    }
}
