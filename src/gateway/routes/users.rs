//! Users and their keys: signing up, and exchanging a key.

use std::path::Path;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

use crate::gateway::auth::{ByUser, Leading, bearer};
use crate::gateway::body::{Body, OptionalBody};
use crate::gateway::error::{ApiError, ErrorBody, unknown_key};
use crate::gateway::gate::Client;
use crate::gateway::keys::{self, ApiKey, StoredKey};
use crate::gateway::ports::{ChangeError, User, UserId};
use crate::gateway::{Gateway, Signup};

/// How long an exchanged key still opens, unless the request says otherwise.
const OVERLAP: u32 = 24 * 60 * 60;
/// The longest that can be asked for: a week.
const LONGEST_OVERLAP: u32 = 7 * 24 * 60 * 60;
/// How often an exchange is tried while others change the same user.
const TRIES: u32 = 4;

/// Who signs up.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::gateway) struct NewUser {
    /// The e-mail address. One address has one user, however it is spelled.
    #[schema(
        example = "user@example.com",
        min_length = 3,
        max_length = 254,
        pattern = r"^[A-Za-z0-9.!#$%&*+/=?^_{|}~-]{1,64}@([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]{0,61}[A-Za-z0-9])(\.([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]{0,61}[A-Za-z0-9]))*$"
    )]
    email: String,
}

/// A new user and the only sight of its key.
#[derive(Serialize, ToSchema)]
pub(in crate::gateway) struct Created {
    #[schema(example = "User created successfully. Store this API key securely!")]
    message: &'static str,
    user: CreatedUser,
}

/// A new user.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::gateway) struct CreatedUser {
    /// A UUID.
    #[schema(format = "uuid")]
    id: String,
    /// As given.
    email: String,
    /// Shown here and never again.
    api_key: String,
    /// There are no passwords.
    #[schema(example = "not-implemented")]
    password_hash: &'static str,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// Sign up
///
/// Creates a user and shows its API key, once. Whether that needs the administrator's token is a setting.
#[utoipa::path(
    post,
    path = "/api/users/create",
    security((), ("signup" = [])),
    request_body = NewUser,
    responses(
        (status = 201, description = "The user and its key.", body = Created),
        (status = 400, description = "Not an e-mail address, or not the JSON that is expected.", body = ErrorBody),
        (status = 401, description = "The administrator's token is missing or wrong.", body = ErrorBody),
        (status = 403, description = "Sign-up is closed.", body = ErrorBody),
        (status = 409, description = "The e-mail address has a user.", body = ErrorBody),
        (status = 408, description = "The body took too long to arrive.", body = ErrorBody),
        (status = 413, description = "The body is over 64 KiB.", body = ErrorBody),
        (status = 429, description = "Too many sign-ups or requests.", body = ErrorBody),
        (status = 503, description = "Cannot be done now.", body = ErrorBody),
    )
)]
pub(in crate::gateway) async fn create(
    State(gateway): State<Gateway>,
    Extension(client): Extension<Client>,
    Leading(ports): Leading,
    headers: HeaderMap,
    Body(new): Body<NewUser>,
) -> Result<(StatusCode, Json<Created>), ApiError> {
    gateway.limits.signup(client.0)?;
    admit(&gateway.settings.signup, &headers).await?;
    if !is_email(&new.email) {
        return Err(ApiError::bad_request("InvalidEmail", "`email` is not an e-mail address: write user@example.com"));
    }
    let now = Timestamp::now();
    let handle = keys::handle_of(&new.email);
    let key = ApiKey::new(&handle, &random()?);
    let id = UserId::parse(&keys::uuid(random()?)).ok_or_else(no_randomness)?;
    let user = User {
        handle,
        id,
        email: new.email,
        created_at: now,
        keys: vec![StoredKey { sha256: key.hash(), created_at: now, expires_at: None }],
        version: String::new(),
    };
    ports.users.create(&user).await?;
    gateway.users.forget(&user.handle);
    tracing::info!(user = %user.id, "a user signed up to the REST API");
    let created = Created {
        message: "User created successfully. Store this API key securely!",
        user: CreatedUser {
            id: user.id.to_string(),
            email: user.email,
            api_key: key.expose().to_owned(),
            password_hash: "not-implemented",
            created_at: user.created_at,
        },
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// How to exchange a key.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::gateway) struct Rotation {
    /// Seconds for which the old key still opens, so that servers can be moved over one by one. 0 ends it at once, which
    /// is right for a key that leaked.
    #[serde(default = "overlap")]
    #[schema(default = 86400, minimum = 0, maximum = 604_800)]
    overlap_seconds: u32,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { overlap_seconds: OVERLAP }
    }
}

fn overlap() -> u32 {
    OVERLAP
}

/// The new key.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::gateway) struct Rotated {
    #[schema(example = "API key rotated. Store this API key securely!")]
    message: &'static str,
    /// Shown here and never again.
    api_key: String,
    /// Until when the key that was sent still opens; null if it no longer does.
    #[schema(value_type = Option<String>, format = DateTime)]
    previous_key_expires_at: Option<Timestamp>,
}

/// Exchange the key
///
/// Makes a new key. The one that was sent still opens for a while, and every other of the same user no longer does. If
/// the answer is lost, repeat the request with the old key.
#[utoipa::path(
    post,
    path = "/api/keys/rotate",
    security(("key" = [])),
    request_body = Option<Rotation>,
    responses(
        (status = 200, description = "The new key.", body = Rotated),
        (status = 400, description = "Not the JSON that is expected.", body = ErrorBody),
        (status = 401, description = "The key is missing, mistyped or opens nothing.", body = ErrorBody),
        (status = 403, description = "Not an API key.", body = ErrorBody),
        (status = 408, description = "The body took too long to arrive.", body = ErrorBody),
        (status = 413, description = "The body is over 64 KiB.", body = ErrorBody),
        (status = 429, description = "Too many requests.", body = ErrorBody),
        (status = 503, description = "Cannot be done now.", body = ErrorBody),
    )
)]
pub(in crate::gateway) async fn rotate(
    State(gateway): State<Gateway>,
    by: ByUser,
    OptionalBody(rotation): OptionalBody<Rotation>,
) -> Result<Json<Rotated>, ApiError> {
    if rotation.overlap_seconds > LONGEST_OVERLAP {
        let message = format!("`overlapSeconds` is too long: write 0 to {LONGEST_OVERLAP}");
        return Err(ApiError::bad_request("InvalidOverlap", message));
    }
    let overlap = Duration::from_secs(rotation.overlap_seconds.into());
    let (handle, presented) = (by.key.handle(), by.key.hash());
    let new = ApiKey::new(handle, &random()?);
    let mut tries = 0;
    loop {
        tries += 1;
        let now = Timestamp::now();
        let user = by.ports.users.find(handle).await?.ok_or_else(unknown_key)?;
        if !keys::opens(&user.keys, &presented, now) {
            return Err(unknown_key());
        }
        let changed = User { keys: keys::rotated(&user.keys, &presented, new.hash(), overlap, now), ..user };
        match by.ports.users.change_keys(&changed).await {
            Ok(()) => {
                gateway.users.forget(&changed.handle);
                tracing::info!(user = %by.user, "a user of the REST API exchanged a key");
                let kept = changed.keys.iter().find(|key| key.sha256 == presented);
                return Ok(Json(Rotated {
                    message: "API key rotated. Store this API key securely!",
                    api_key: new.expose().to_owned(),
                    previous_key_expires_at: kept.and_then(|key| key.expires_at),
                }));
            }
            Err(ChangeError::Conflict) if tries < TRIES => {}
            Err(error) => {
                // The change may have been made all the same.
                gateway.users.forget(&changed.handle);
                return Err(error.into());
            }
        }
    }
}

/// Whether this sign-up is allowed.
async fn admit(signup: &Signup, headers: &HeaderMap) -> Result<(), ApiError> {
    let closed = |why| Err(ApiError::forbidden("SignupClosed", why));
    match signup {
        Signup::Open => Ok(()),
        Signup::Closed => closed("sign-up is closed: ask the administrator for an API key"),
        Signup::Token(None) => closed("sign-up is closed until the administrator sets a sign-up token"),
        Signup::Token(Some(file)) => {
            let expected = signup_token(file).await?;
            let sent = bearer(headers).map_err(|_| {
                let message = "signing up needs the administrator's token: send `Authorization: Bearer <token>`";
                ApiError::unauthenticated("SignupTokenMissing", message)
            })?;
            // Hashes have one length, so that nothing of the token shows in the time it takes.
            let digest = |token: &str| Sha256::digest(token.as_bytes());
            if bool::from(digest(sent).as_slice().ct_eq(digest(&expected).as_slice())) {
                Ok(())
            } else {
                Err(ApiError::unauthenticated("SignupTokenWrong", "this is not the administrator's sign-up token"))
            }
        }
    }
}

/// The administrator's token, read anew so that it can be changed without a restart.
async fn signup_token(file: &Path) -> Result<String, ApiError> {
    let read = tokio::fs::read_to_string(file).await;
    match read.as_deref().map(str::trim) {
        Ok(token) if !token.is_empty() => Ok(token.to_owned()),
        other => {
            let why = other.err().map_or_else(|| "it is empty".to_owned(), ToString::to_string);
            tracing::error!(file = %file.display(), why, "--signup-token-file cannot be used");
            let message = "the sign-up token cannot be read: ask the administrator to mend --signup-token-file";
            Err(ApiError::unavailable("SignupMisconfigured", message, Duration::from_secs(60)))
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], ApiError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| no_randomness())?;
    Ok(bytes)
}

fn no_randomness() -> ApiError {
    ApiError::unavailable("Unavailable", "no key can be made now: repeat the request", Duration::from_secs(5))
}

/// Whether it is an address as HTML forms take them: ASCII, no quotes, a domain of valid labels. Nothing is sent to it.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let of_local = |b: u8| b.is_ascii_alphanumeric() || b".!#$%&*+/=?^_{|}~-".contains(&b);
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 254 && (1..=64).contains(&local.len()) && local.bytes().all(of_local) && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_mail_addresses_are_taken_and_everything_else_refused() {
        let long = format!("{}@example.com", "a".repeat(65));
        for good in ["user@example.com", "a.b+c@example.co.uk", "u@localhost", "O=Brien@EXAMPLE.com"] {
            assert!(is_email(good), "{good}");
        }
        for bad in ["", "@", "user", "user@", "@example.com", "a b@example.com", "a@b@c", "a@-b.com", "a@b..c", "a@b."]
        {
            assert!(!is_email(bad), "{bad}");
        }
        for bad in ["a\"@example.com", "a@exa mple.com", "ü@example.com", "a,b@example.com", "a\n@example.com", &long]
        {
            assert!(!is_email(bad), "{bad}");
        }
    }
}
