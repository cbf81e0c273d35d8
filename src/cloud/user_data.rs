//! What cloud-init gets: people's SSH keys from us, and whatever the user adds. Pure.
//!
//! Our part is as small as it can be, because every line of it competes with the user's. The user's part is kept byte
//! for byte and runs after ours; where both are present they travel as the parts of one MIME message.

use std::fmt::Write as _;

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};

/// How much user data a provider takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The provider's name, for the message.
    pub provider: &'static str,
    /// Bytes.
    pub bytes: usize,
}

impl Limit {
    /// 64 KiB.
    pub const DIGITALOCEAN: Self = Self { provider: "DigitalOcean", bytes: 64 * 1024 };
}

/// Why user data was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserDataError {
    /// Too much of it.
    #[error(
        "spec.userData of {user} bytes makes {total} bytes of user data with Roadstead's own part, and {provider} takes \
         at most {limit}: shorten it by {surplus} bytes", surplus = total - limit
    )]
    TooLong {
        /// What the user wrote, in bytes.
        user: usize,
        /// What would be sent, in bytes.
        total: usize,
        /// The provider's limit, in bytes.
        limit: usize,
        /// The provider's name.
        provider: &'static str,
    },
    /// cloud-init would not know what to do with it, and says so only in a log on the VM.
    #[error(
        "spec.userData begins with `{0}`, by which cloud-init cannot tell what it is: begin it with `#cloud-config`, or \
         with `#!` and an interpreter"
    )]
    Unknown(String),
    /// Not a public key in the format of `authorized_keys`.
    #[error(
        "spec.sshAuthorizedKeys[{index}] `{value}` is not a public key: write one line as in a .pub file, such as \
         `ssh-ed25519 AAAA… name`"
    )]
    Key {
        /// Position in the list, from 0.
        index: usize,
        /// Its beginning; enough to find it, and too little to spill a private key pasted by mistake.
        value: String,
    },
}

/// The first lines by which cloud-init recognises a format, and the MIME type of each.
const FORMATS: [(&str, &str); 6] = [
    ("#!", "text/x-shellscript"),
    ("#cloud-config-archive", "text/cloud-config-archive"),
    ("#cloud-config", "text/cloud-config"),
    ("#cloud-boothook", "text/cloud-boothook"),
    ("#include", "text/x-include-url"),
    ("## template: jinja", "text/jinja2"),
];

/// How a MIME message of the user's own begins.
const MIME: [&str; 2] = ["MIME-Version:", "Content-Type: multipart/"];

/// Stands for a part that brings its own headers.
const NESTED: &str = "multipart";

const KEY_TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// How much of a bad value a message repeats.
const SHOWN: usize = 24;

/// Composes the user data of a VM: `keys` may log in as `root` and as the image's default user, and `user` runs as
/// well. `None` if there is neither. Equal input gives equal output.
///
/// # Errors
/// [`UserDataError`], naming the field.
pub fn compose(keys: &[String], user: Option<&str>, limit: Limit) -> Result<Option<String>, UserDataError> {
    let user = user.filter(|user| !user.trim().is_empty());
    for (index, key) in keys.iter().enumerate() {
        check_key(key).map_err(|()| UserDataError::Key { index, value: beginning(key) })?;
    }
    let ours = (!keys.is_empty()).then(|| cloud_config(keys));
    let composed = match (ours, user) {
        (None, None) => return Ok(None),
        (Some(ours), None) => ours,
        (ours, Some(user)) => {
            let kind = format_of(user)?;
            ours.map_or_else(|| user.to_owned(), |ours| multipart(&[("text/cloud-config", &ours), (kind, user)]))
        }
    };
    if composed.len() > limit.bytes {
        return Err(UserDataError::TooLong {
            user: user.map_or(0, str::len),
            total: composed.len(),
            limit: limit.bytes,
            provider: limit.provider,
        });
    }
    Ok(Some(composed))
}

/// Top-level keys go to the default user, and with `disable_root: false` to root as well; `users` is left to the user.
/// `DigitalOcean` gives a VM that it knows no key for an expired root password, which would bar even a login by key.
fn cloud_config(keys: &[String]) -> String {
    let mut text =
        String::from("#cloud-config\ndisable_root: false\nchpasswd: {expire: false}\nssh_authorized_keys:\n");
    for key in keys {
        // A JSON string is a YAML string, whatever the comment of a key contains.
        let _ = writeln!(text, "  - {}", serde_json::Value::from(key.trim()));
    }
    text
}

fn check_key(key: &str) -> Result<(), ()> {
    let key = key.trim();
    let mut words = key.split(' ');
    let known = words.next().is_some_and(|kind| KEY_TYPES.contains(&kind));
    let body = words.next().is_some_and(|body| BASE64.decode(body.as_bytes()).is_ok_and(|bytes| !bytes.is_empty()));
    if known && body && !key.contains(char::is_control) { Ok(()) } else { Err(()) }
}

fn format_of(user: &str) -> Result<&'static str, UserDataError> {
    if MIME.iter().any(|header| user.starts_with(header)) {
        return Ok(NESTED);
    }
    let known = FORMATS.iter().find(|(prefix, _)| user.starts_with(prefix));
    known.map(|(_, kind)| *kind).ok_or_else(|| UserDataError::Unknown(beginning(user.trim_start())))
}

fn beginning(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(SHOWN).collect()
}

/// A MIME message as cloud-init reads it. Lists of several cloud-configs are joined (cloud-init would otherwise take
/// one and drop the other's keys).
fn multipart(parts: &[(&str, &str)]) -> String {
    let mut hash = Sha256::new();
    for (_, text) in parts {
        hash.update(text);
    }
    // No text contains its own hash.
    let boundary = format!("roadstead-{}", &HEXLOWER.encode(&hash.finalize())[..32]);
    let mut message = format!("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"{boundary}\"\n\n");
    for (kind, text) in parts {
        if *kind == NESTED {
            let _ = write!(message, "--{boundary}\n{text}\n");
            continue;
        }
        let _ = write!(message, "--{boundary}\nContent-Type: {kind}; charset=\"utf-8\"\n");
        if *kind == "text/cloud-config" {
            message.push_str("Merge-Type: list(append)+dict(recurse_list)+str()\n");
        }
        // Other bytes than ASCII would be mangled by cloud-init's parser unless encoded.
        if text.is_ascii() {
            let _ = write!(message, "Content-Transfer-Encoding: 7bit\n\n{text}\n");
        } else {
            message.push_str("Content-Transfer-Encoding: base64\n\n");
            for line in BASE64.encode(text.as_bytes()).as_bytes().chunks(76) {
                message.extend(line.iter().map(|byte| char::from(*byte)));
                message.push('\n');
            }
        }
    }
    let _ = writeln!(message, "--{boundary}--");
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBLLWYbRCXCqSCLh6dO4nCkxRXKqQ0W8kYbA3eKpZ2Vt ada: \"work\"";

    fn ok(keys: &[&str], user: Option<&str>) -> Option<String> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        compose(&keys, user, Limit::DIGITALOCEAN).unwrap()
    }

    /// The parts of a message: headers and decoded body.
    fn parts(message: &str) -> Vec<(String, String)> {
        let boundary = message.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
        let mut pieces: Vec<&str> = message.split(&format!("--{boundary}")).collect();
        assert_eq!(pieces.pop().unwrap(), "--\n");
        let part = |piece: &&str| {
            let (head, body) = piece.split_once("\n\n").unwrap();
            let body = body.strip_suffix('\n').unwrap();
            if head.contains("base64") {
                let bytes = BASE64.decode(body.replace('\n', "").as_bytes()).unwrap();
                (head.to_owned(), String::from_utf8(bytes).unwrap())
            } else {
                (head.to_owned(), body.to_owned())
            }
        };
        pieces[1..].iter().map(part).collect()
    }

    #[test]
    fn keys_alone_make_a_cloud_config_that_yaml_reads_back() {
        let text = ok(&[KEY], None).unwrap();
        assert!(text.starts_with("#cloud-config\n"));
        let yaml: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        let expected =
            serde_json::json!({"disable_root": false, "chpasswd": {"expire": false}, "ssh_authorized_keys": [KEY]});
        assert_eq!(yaml, expected);
    }

    #[test]
    fn nothing_asked_for_is_nothing_sent() {
        assert_eq!(ok(&[], None), None);
        assert_eq!(ok(&[], Some(" \n")), None);
    }

    #[test]
    fn a_users_script_alone_is_sent_as_it_is() {
        assert_eq!(ok(&[], Some("#!/bin/sh\ntrue\n")).unwrap(), "#!/bin/sh\ntrue\n");
    }

    #[test]
    fn keys_and_user_data_become_two_parts_of_the_right_types() {
        for (user, kind) in [
            ("#!/bin/sh\necho hi\n", "text/x-shellscript"),
            ("#cloud-config\npackages: [caddy]\n", "text/cloud-config"),
            ("#cloud-config-archive\n- content: x\n", "text/cloud-config-archive"),
            ("#cloud-config\nfinal_message: grüß dich\n", "text/cloud-config"),
        ] {
            let message = ok(&[KEY], Some(user)).unwrap();
            let parts = parts(&message);
            assert_eq!(parts.len(), 2, "{message}");
            assert!(parts[0].1.starts_with("#cloud-config\n"));
            assert!(parts[1].0.contains(&format!("Content-Type: {kind};")), "{message}");
            assert_eq!(parts[1].1, user);
        }
    }

    #[test]
    fn a_message_of_the_users_own_is_nested_with_its_headers() {
        let user = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"z\"\n\n--z\n\n#!/bin/sh\n--z--\n";
        let message = ok(&[KEY], Some(user)).unwrap();
        let (head, body) = parts(&message).remove(1);
        assert_eq!(format!("{}\n\n{body}", head.trim_start()), user);
    }

    #[test]
    fn user_data_over_the_limit_names_the_field_and_the_sizes() {
        let user = format!("#!/bin/sh\n{}", "#".repeat(70_000));
        let error = compose(&[], Some(&user), Limit::DIGITALOCEAN).unwrap_err();
        assert_eq!(
            error.to_string(),
            "spec.userData of 70010 bytes makes 70010 bytes of user data with Roadstead's own part, and DigitalOcean \
             takes at most 65536: shorten it by 4474 bytes"
        );
        let fits = "x".repeat(Limit::DIGITALOCEAN.bytes - "#!/bin/sh\n".len());
        assert!(compose(&[], Some(&format!("#!/bin/sh\n{fits}")), Limit::DIGITALOCEAN).is_ok());
    }

    #[test]
    fn what_cloud_init_would_not_recognise_is_refused() {
        for user in ["apt install caddy", " #!/bin/sh", "\u{feff}#cloud-config"] {
            assert!(matches!(compose(&[], Some(user), Limit::DIGITALOCEAN), Err(UserDataError::Unknown(_))), "{user}");
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused_without_spilling_it() {
        let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0c2VjcmV0";
        for key in [private, "", "ssh-ed25519", "ssh-ed25519 !!!", &format!("{KEY}\nssh_pwauth: true")] {
            let error = compose(&[KEY.to_owned(), key.to_owned()], None, Limit::DIGITALOCEAN).unwrap_err();
            assert!(matches!(error, UserDataError::Key { index: 1, .. }), "{error}");
            assert!(!error.to_string().contains("c2VjcmV0"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_script_survives_the_journey_byte_for_byte(body in "[ -~\n\u{e4}\u{1f6a2}]{0,300}") {
            let user = format!("#!/bin/sh\n{body}");
            let message = ok(&[KEY], Some(&user)).unwrap();
            prop_assert_eq!(&parts(&message)[1].1, &user);
        }
    }
}
