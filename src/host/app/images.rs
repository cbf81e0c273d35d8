//! What there is to be told of an app on a host: the digests of its images, and its volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::handed::{HAND, Handed};
use crate::host::compose::Project;
use crate::host::deploy::commands::Place;
use crate::host::ssh::{Command, Error, Session, quote};

/// What looking may take.
const LIMIT: Duration = Duration::from_secs(60);
/// The most that the host may say: a canonical form with the values of all variables.
const MOST: usize = 16 << 20;

/// Arguments: Compose's words.
const DIGESTS: &str = r#"eval "$1 config --format json" >"$scratch/config"
hand config "$scratch/config"
eval "$1 config --images" | sort -u >"$scratch/names"
while read -r name; do
  echo "$name" | inspect image inspect --format "{\"name\":\"$name\",\"digests\":{{json .RepoDigests}}}"
done <"$scratch/names" >"$scratch/all"
hand images "$scratch/all"
hand end /dev/null"#;

/// An image, as the script says it.
#[derive(Deserialize)]
struct Image {
    name: String,
    digests: Option<Vec<String>>,
}

/// The digest (`sha256:…`) of each service's image of a revision, as it was pulled. Images that were never in a registry
/// have none.
///
/// # Errors
/// If the host cannot be looked at.
pub async fn digests(session: &Session, place: &Place, revision: &str) -> Result<BTreeMap<String, String>, Error> {
    let compose = place.compose(revision, &[]).iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
    let text = format!("sh -c {} sh {}", quote(&format!("{HAND}{DIGESTS}")), quote(&compose));
    let command = Command::new(text, LIMIT).stdout_cap(MOST).as_root();
    let output = session.exec(command).await?.checked(&format!("looking at the images of {}", place.project))?;
    let said = Handed::read(&output.stdout)?;
    let unreadable = |error: crate::host::compose::project::Unreadable| Error::Invalid(error.to_string());
    let project = Project::read(said.get("config").unwrap_or_default()).map_err(unreadable)?;
    Ok(of(&project, &said.json("images")?))
}

fn of(project: &Project, images: &[Image]) -> BTreeMap<String, String> {
    let digest = |image: &String| {
        let digests = images.iter().find(|found| found.name == *image)?.digests.as_ref()?;
        // One image may have come from several repositories, each with its own digest.
        let same = digests.iter().find(|digest| repository(digest) == repository(image));
        let (_, digest) = same.or(digests.first())?.split_once('@')?;
        Some(digest.to_owned())
    };
    let services = project.services.iter();
    services.filter_map(|(name, service)| Some((name.clone(), digest(service.image.as_ref()?)?))).collect()
}

/// An image's name without tag and digest, and without what Docker leaves out of the names of its own registry.
fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

/// The named volumes of the app's project on the host.
///
/// # Errors
/// If the host cannot be looked at.
pub async fn volumes(session: &Session, place: &Place) -> Result<BTreeSet<String>, Error> {
    let filter = format!("label=com.docker.compose.project={}", place.project);
    let words = ["docker", "volume", "ls", "--quiet", "--filter", &filter];
    let output = session.exec(Command::of(words, LIMIT).as_root()).await?;
    let output = output.checked(&format!("looking at the volumes of {}", place.project))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_the_repository_the_image_is_named_by() {
        let text = r#"{"services":{"web":{"image":"r.example:5000/shop:1"},"db":{"image":"docker.io/library/redis:7"},
            "own":{"image":"built"},"none":{"image":"gone"},"by":{"image":"a/b@sha256:33"}}}"#;
        let images = r#"[{"name":"r.example:5000/shop:1","digests":["ghcr.io/shop@sha256:11","r.example:5000/shop@sha256:22"]},
            {"name":"docker.io/library/redis:7","digests":["x/redis@sha256:44","redis@sha256:55"]},
            {"name":"built","digests":[]},{"name":"a/b@sha256:33","digests":["a/b@sha256:33"]}]"#;
        let images: Vec<Image> = serde_json::from_str(images).unwrap();
        let expected = [("web", "sha256:22"), ("db", "sha256:55"), ("by", "sha256:33")];
        let expected = expected.map(|(service, digest)| (service.to_owned(), digest.to_owned())).into();
        assert_eq!(of(&Project::read(text).unwrap(), &images), expected);
    }
}
