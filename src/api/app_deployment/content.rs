//! What an app is made of: its Compose file, and the files, images and variables that go with it.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The rule for the name of a Secret, a ConfigMap or another object of the namespace.
const NAME: (&str, &str) = (
    "self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",
    "write the name of an object of this namespace: a-z, 0-9, `-` and `.`, not starting or ending with `-` or `.`",
);

/// The rule for a key of a Secret or ConfigMap.
const KEY: (&str, &str) = ("self.matches('^[A-Za-z0-9._-]+$')", "a key has letters, digits, `.`, `_` and `-`");

/// An object of this namespace, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct LocalRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = NAME)]
    pub name: String,
}

/// A key of a Secret or ConfigMap of this namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct KeyRef {
    /// Name of the Secret or ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = NAME)]
    pub name: String,
    /// Key in it.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = KEY)]
    pub key: String,
}

/// The Compose file: exactly one of `inline` and `configMapKeyRef`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.inline) != has(self.configMapKeyRef)", "set `inline` or `configMapKeyRef`, and not both"),
    validation = ("!has(self.files) || !self.files.exists(a, self.files.exists(b, b.path.startsWith(a.path + '/')))",
        "one of the files would have to be a directory, because another one's path leads through it: rename one of them")
)]
pub struct Compose {
    /// The text of the file, up to 256 KiB. Docker Compose reads it on the host, so it may use whatever Compose knows;
    /// `${NAME}` in it is a variable of `env` or `envFrom`. It is never changed: what Roadstead adds, it adds in an
    /// overlay. `kubectl apply` keeps a copy of the object in an annotation, so it needs `--server-side` for a text of more
    /// than about 200 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262_144))]
    pub inline: Option<String>,
    /// A key of a ConfigMap of this namespace that holds the text. A changed text is a new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
    /// Files beside it, for it to mount, of 4 MiB together. Other paths of the host are not its to mount: see `hostAccess`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["path".to_owned()]))]
    pub files: Vec<File>,
}

/// A file beside the Compose file: exactly one of `configMapKeyRef` and `secretKeyRef`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.configMapKeyRef) != has(self.secretKeyRef)", "set `configMapKeyRef` or `secretKeyRef`, and not both")
)]
pub struct File {
    /// Its path beside the Compose file, e.g. `nginx/site.conf`, which the file mounts as `./nginx/site.conf`.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(
        validation = ("self.matches('^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$') && !self.matches('(^|/)[.][.]?(/|$)')",
            "write a relative path of letters, digits, `.`, `_` and `-`, without `.` and `..` as parts, e.g. `nginx/site.conf`")
    )]
    pub path: String,
    /// A key of a ConfigMap of this namespace, with text or binary data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
    /// A key of a Secret of this namespace, which the chart value `appNamespaces` has to name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
}

/// The image of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Image {
    /// The service.
    #[schemars(length(min = 1, max = 128))]
    pub service: String,
    /// The image, with tag or digest, e.g. `ghcr.io/acme/shop:1.4.1`. A tag is resolved once for each revision: what the
    /// registry has under it later is another revision's.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = ("self.matches('^[A-Za-z0-9]([A-Za-z0-9._:/@+-]*[A-Za-z0-9_])?$') && !self.contains('://')", "write an image with its tag or digest, e.g. `ghcr.io/acme/shop:1.4.1`"))]
    pub image: String,
}

/// A variable: exactly one of `value`, `secretKeyRef` and `configMapKeyRef`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("[has(self.value), has(self.secretKeyRef), has(self.configMapKeyRef)].filter(set, set).size() == 1",
        "set exactly one of value, secretKeyRef and configMapKeyRef")
)]
pub struct EnvVar {
    /// Its name.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = ("self.matches('^[A-Za-z_][A-Za-z0-9_]*$')", "a variable's name has letters, digits and `_`, and starts with no digit"),
        validation = ("!self.startsWith('COMPOSE_') || self == 'COMPOSE_PROFILES'", "of the variables that steer Compose only COMPOSE_PROFILES is for the app to choose")
    )]
    pub name: String,
    /// Its value, which everyone can read who may read this object. Passwords belong into a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32_768))]
    pub value: Option<String>,
    /// A key of a Secret of this namespace, which the chart value `appNamespaces` has to name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
    /// A key of a ConfigMap of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
    /// The services that get it; the entry service without any. `${NAME}` in the Compose file works either way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub services: Vec<String>,
}

/// A whole Secret or ConfigMap: exactly one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.secretRef) != has(self.configMapRef)", "set `secretRef` or `configMapRef`, and not both")
)]
pub struct EnvSource {
    /// What the name of each variable begins with, before the key, e.g. `SMTP_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = ("self.matches('^[A-Za-z_][A-Za-z0-9_]*$')", "a variable's name has letters, digits and `_`, and starts with no digit"))]
    pub prefix: Option<String>,
    /// A Secret of this namespace, which the chart value `appNamespaces` has to name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// A ConfigMap of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<LocalRef>,
}
