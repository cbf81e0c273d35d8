//! The history keeps what it is given within its bounds, and a kill, a full disk or a damaged file stops nobody.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may say bluntly what they expect")]

use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use roadstead::store::{Entry, Health, Limits, Source, Store};
use support::eventually;

const ROOM: Limits = Limits { age: Duration::from_secs(3600), bytes: 64 << 20 };
const WAIT: Duration = Duration::from_secs(20);
/// Where the writer that is killed writes.
const VARIABLE: &str = "ROADSTEAD_TEST_HISTORY";

fn entry(group: &str, number: usize) -> Entry {
    Entry {
        group_uid: group.to_owned(),
        member: format!("10.0.{}.{}", number / 256 % 256, number % 256),
        source: if number.is_multiple_of(2) { Source::Probe } else { Source::Report },
        health: [Health::Healthy, Health::Unhealthy, Health::Pending][number % 3],
        details: number.is_multiple_of(5).then(|| format!("number {number}")),
        at: Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap(),
    }
}

async fn flushed(store: &Store) {
    eventually(WAIT, "all that was appended to be dealt with", async || store.flush().await).await;
}

/// Waits until the trouble is as expected.
async fn trouble(store: &Store, expected: impl Fn(Option<&str>) -> bool) {
    let mut said = store.trouble();
    let waited = said.wait_for(|said| expected(said.as_deref()));
    let ended = tokio::time::timeout(WAIT, waited).await;
    assert!(ended.is_ok(), "the trouble stays {:?}", store.trouble().borrow().clone());
}

fn file(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("history.sqlite")
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

#[tokio::test]
async fn entries_read_back_newest_first_page_by_page_and_only_those_of_the_group() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&file(&directory), ROOM).unwrap();
    let mine: Vec<Entry> = (0..25).map(|number| entry("mine", number)).collect();
    for entry_of_mine in &mine {
        store.append(entry_of_mine.clone());
        store.append(entry("other", 1));
    }
    let (mut read, mut before) = (Vec::new(), None);
    loop {
        let page = store.recent("mine", 10, before).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        assert!(page.len() <= 10);
        read.extend(page.into_iter().map(|recorded| recorded.entry));
    }
    read.reverse();
    assert_eq!(read, mine);
    assert_eq!(store.recent("unknown", 10, None).await.unwrap(), []);
    assert_eq!(store.dropped(), 0);
}

#[tokio::test]
async fn the_history_outlives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&file(&directory), ROOM).unwrap();
    store.append(entry("g", 7));
    flushed(&store).await;
    drop(store);
    let store = Store::open(&file(&directory), ROOM).unwrap();
    eventually(WAIT, "the entry to be read", async || {
        store.recent("g", 10, None).await.is_ok_and(|page| page.len() == 1)
    })
    .await;
}

#[tokio::test]
async fn neither_size_nor_age_grows_beyond_its_bound_and_the_newest_stay() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let bytes = 1 << 20;
    let store = Store::open(&path, Limits { bytes, ..ROOM }).unwrap();
    for round in 0..40 {
        for number in 0..1000 {
            let details = Some("x".repeat(200));
            store.append(Entry { details, ..entry(&format!("g{}", number % 50), round * 1000 + number) });
        }
        flushed(&store).await;
        assert!(size(&path) <= bytes, "{} bytes", size(&path));
        assert!(size(&directory.path().join("history.sqlite-wal")) <= 16 << 20);
    }
    assert_eq!((store.dropped(), store.trouble().borrow().clone()), (0, None));
    store.append(entry("newest", 1));
    assert_eq!(store.recent("newest", 10, None).await.unwrap().len(), 1);
    let left = store.recent("g0", 1000, None).await.unwrap().len();
    assert!((10..800).contains(&left), "{left} of 800 entries are left");
    drop(store);

    // What is too old goes when the file is next opened, and then every minute.
    let store = Store::open(&path, Limits { bytes, age: Duration::ZERO }).unwrap();
    eventually(WAIT, "all to be forgotten", async || match store.recent("g0", 1000, None).await {
        Ok(page) if page.is_empty() => Ok(()),
        Ok(page) => Err(format!("{} entries", page.len())),
        Err(error) => Err(error.to_string()),
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_is_said_and_counted_and_heals_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    // Room for the tables and next to nothing else.
    let store = Store::open(&file(&directory), Limits { bytes: 6 * 4096, ..ROOM }).unwrap();
    store.append(Entry { details: Some("x".repeat(100_000)), ..entry("g", 1) });
    flushed(&store).await;
    trouble(&store, |said| said.is_some_and(|said| said.contains("no room") && said.contains("--history-size"))).await;
    assert_eq!(store.dropped(), 1);
    store.append(entry("g", 2));
    let page = store.recent("g", 10, None).await.unwrap();
    assert_eq!(page.len(), 1);
    assert_eq!(store.trouble().borrow().clone(), None);
    assert_eq!(store.dropped(), 1);
}

#[tokio::test]
async fn a_directory_that_is_missing_is_said_and_found_again_once_it_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("below");
    let store = Store::open(&below.join("history.sqlite"), ROOM).unwrap();
    trouble(&store, |said| said.is_some_and(|said| said.contains("cannot be written"))).await;
    store.append(entry("g", 1));
    flushed(&store).await;
    assert_eq!(store.dropped(), 1);
    assert!(store.recent("g", 10, None).await.is_err());

    std::fs::create_dir(&below).unwrap();
    trouble(&store, |said| said.is_none()).await;
    store.append(entry("g", 2));
    assert_eq!(store.recent("g", 10, None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_damaged_file_is_moved_aside_and_a_new_one_begun() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    std::fs::write(&path, "this was never a database".repeat(500)).unwrap();
    let aside = directory.path().join("history.sqlite.corrupt");
    let store = Store::open(&path, ROOM).unwrap();
    for number in 0..5000 {
        store.append(entry("g", number));
    }
    flushed(&store).await;
    assert!(!store.recent("g", 10, None).await.unwrap().is_empty());
    assert!(std::fs::read_to_string(&aside).unwrap().starts_with("this was never a database"));
    drop(store);

    // Damage within: the head is good, a page in the middle is not.
    let path_of_log = directory.path().join("history.sqlite-wal");
    eventually(WAIT, "the writer to end and remove its log", async || !path_of_log.exists()).await;
    let mut within = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    within.seek(SeekFrom::Start(4096 * 10)).unwrap();
    within.write_all(&vec![0xff; 4096 * 8]).unwrap();
    drop(within);
    let store = Store::open(&path, ROOM).unwrap();
    store.append(entry("g", 1));
    flushed(&store).await;
    let page = store.recent("g", 100, None).await.unwrap();
    assert_eq!((page.len(), store.trouble().borrow().clone()), (1, None));
    assert!(size(&aside) > 4096 * 18, "the damaged file was not kept");
}

#[tokio::test]
async fn a_process_killed_while_it_writes_leaves_all_that_was_flushed() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    for round in 1..=5_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_writer_that_is_killed", "--ignored", "--nocapture"])
            .env(VARIABLE, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let flushed = lines.map_while(Result::ok).filter(|line| line == "flushed").take(round * 3).count();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(flushed, round * 3);

        let store = Store::open(&path, ROOM).unwrap();
        let group = child.id().to_string();
        let read = async || store.recent(&group, 100_000, None).await;
        let page = eventually(WAIT, "the file to open", read).await;
        assert!(page.len() >= flushed * 500, "{} entries are left of {} that were flushed", page.len(), flushed * 500);
        assert!(!directory.path().join("history.sqlite.corrupt").exists());
    }
}

#[tokio::test]
#[ignore = "runs in a process of its own, started and killed by the test above"]
async fn the_writer_that_is_killed() {
    let Some(path) = std::env::var_os(VARIABLE) else { return };
    let store = Store::open(Path::new(&path), ROOM).unwrap();
    let group = std::process::id().to_string();
    loop {
        for number in 0..500 {
            store.append(entry(&group, number));
        }
        flushed(&store).await;
        println!("flushed");
    }
}
