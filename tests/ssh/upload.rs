//! Files: whole or not at all, wherever they are to go.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use roadstead::host::ssh::{Error, Session, Upload};
use support::eventually;

use crate::rig::{LONG, Sshd, command};

async fn upload(session: &Session, path: &Path, bytes: impl Into<Vec<u8>>, mode: u32) -> Result<(), Error> {
    session.upload(Upload::new(path.to_str().unwrap(), bytes.into(), mode, LONG)).await
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The names in a directory, in order.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_file_has_its_bytes_and_its_mode_and_nothing_lies_beside_it() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let directory = sshd.path("files");
    fs::create_dir(&directory).unwrap();
    let every: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    for (bytes, permissions) in [(Vec::new(), 0o600), (every, 0o755), (b"short".to_vec(), 0o440)] {
        upload(&session, &directory.join("file"), bytes.clone(), permissions).await.unwrap();
        assert!(fs::read(directory.join("file")).unwrap() == bytes);
        assert_eq!(mode(&directory.join("file")), permissions);
        assert_eq!(names(&directory), ["file"]);
    }
}

#[tokio::test]
async fn paths_may_hold_whatever_file_names_may() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let odd = sshd.path("it's a $(touch x) \"dir\"; *");
    fs::create_dir(&odd).unwrap();
    let long = "n".repeat(255);
    for name in ["a b", "it's", "-rf", "$HOME", "new\nline", "back\\slash", "ü", ".hidden", long.as_str()] {
        upload(&session, &odd.join(name), name, 0o644).await.unwrap();
        assert_eq!(fs::read_to_string(odd.join(name)).unwrap(), name);
    }
    assert_eq!(names(&odd).len(), 9);
}

#[tokio::test]
async fn a_link_is_replaced_and_what_it_led_to_stays() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    fs::write(sshd.path("real"), "old").unwrap();
    std::os::unix::fs::symlink(sshd.path("real"), sshd.path("link")).unwrap();
    upload(&session, &sshd.path("link"), "new", 0o644).await.unwrap();
    assert_eq!(fs::read_to_string(sshd.path("link")).unwrap(), "new");
    assert_eq!(fs::read_to_string(sshd.path("real")).unwrap(), "old");
}

#[tokio::test]
async fn what_cannot_be_written_says_why_and_leaves_nothing() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let directory = sshd.path("files");
    fs::create_dir_all(directory.join("taken/full")).unwrap();
    let error = upload(&session, &directory.join("missing/file"), "x", 0o644).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }) && error.to_string().contains("No such file"), "{error}");
    let error = upload(&session, &directory.join("taken"), "x", 0o644).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }) && error.to_string().contains("directory"), "{error}");
    assert_eq!(names(&directory), ["taken"]);
    assert_eq!(names(&directory.join("taken")), ["full"]);
    for path in ["relative", "", "/dir/", "/nul\0"] {
        let error = session.upload(Upload::new(path, "x", 0o644, LONG)).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{path}: {error:?}");
    }
}

/// Starts an upload that is far too large to be over, and awaits that some of it has arrived.
async fn halfway(sshd: &Sshd, session: Session) -> tokio::task::JoinHandle<Result<(), Error>> {
    let path = sshd.path("files/file");
    let running = tokio::spawn(async move { upload(&session, &path, vec![b'n'; 150_000_000], 0o644).await });
    eventually(LONG, "a part to arrive", async || {
        names(&sshd.path("files")).len() == 2
            && fs::read_dir(sshd.path("files")).unwrap().any(|entry| {
                let entry = entry.unwrap();
                entry.file_name() != "file" && entry.metadata().unwrap().len() > 0
            })
    })
    .await;
    running
}

async fn stays_whole(sshd: &Sshd) {
    crate::rig::none_with(sshd.path("files").to_str().unwrap()).await;
    assert_eq!(fs::read_to_string(sshd.path("files/file")).unwrap(), "old and whole");
}

#[tokio::test]
async fn an_upload_that_is_cut_off_leaves_the_old_file_whole() {
    let sshd = Sshd::start().await;
    fs::create_dir(sshd.path("files")).unwrap();
    fs::write(sshd.path("files/file"), "old and whole").unwrap();
    let running = halfway(&sshd, sshd.connect().await).await;
    sshd.cut();
    assert!(running.await.unwrap().unwrap_err().is_cut());
    stays_whole(&sshd).await;
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_the_old_file_whole() {
    let sshd = Sshd::start().await;
    fs::create_dir(sshd.path("files")).unwrap();
    fs::write(sshd.path("files/file"), "old and whole").unwrap();
    let running = halfway(&sshd, sshd.connect().await).await;
    running.abort();
    stays_whole(&sshd).await;
    // What was left beside it goes with an upload of an hour later.
    let left = names(&sshd.path("files")).remove(0);
    let session = sshd.connect().await;
    let aged = format!("touch -d '2 hours ago' '{}'", sshd.path("files").join(&left).display());
    assert!(left.starts_with(".roadstead-") && session.exec(command(&aged)).await.unwrap().success());
    upload(&session, &sshd.path("files/file"), "new", 0o644).await.unwrap();
    assert_eq!(names(&sshd.path("files")), ["file"]);
}

#[tokio::test]
async fn readers_see_the_old_or_the_new_while_files_are_replaced() {
    let sshd = Sshd::start().await;
    let session = sshd.connect().await;
    let path = sshd.path("file");
    let content = |number: usize| number.to_string().repeat(200_000);
    upload(&session, &path, content(0), 0o644).await.unwrap();
    let uploads = async {
        for number in 1..5 {
            upload(&session, &path, content(number), 0o644).await.unwrap();
        }
    };
    let mut uploads = std::pin::pin!(uploads);
    let mut reads = 0;
    loop {
        tokio::select! {
            biased;
            () = &mut uploads => break,
            () = tokio::time::sleep(std::time::Duration::from_millis(1)) => {}
        }
        let text = fs::read_to_string(&path).unwrap();
        let first = text.chars().next().unwrap();
        assert!(text.len() == 200_000 && text.chars().all(|digit| digit == first));
        reads += 1;
    }
    assert!(reads > 0);
    assert_eq!(fs::read_to_string(&path).unwrap(), content(4));
}
