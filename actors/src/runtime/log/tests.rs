use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| &*line.text).collect()
}

fn print(log: &EngineLog, bytes: &[u8]) {
    let mut cutter = LineCutter::default();
    cutter.cut(bytes, |lines| log.write(lines, LogStream::Output));
    cutter.finish(|lines| log.write(lines, LogStream::Output));
}

#[test]
fn the_ring_keeps_the_newest_lines_and_counts_the_rest() {
    let log = EngineLog::new(EngineLogOptions { lines_max: 3, ..EngineLogOptions::default() });
    print(&log, b"a\nb\nc\nd\ne\n");
    assert_eq!(texts(&log.lines(10)), ["c", "d", "e"]);
    assert_eq!(texts(&log.lines(1)), ["e"]);
    let page = log.after(0, 10);
    assert_eq!((page.dropped, page.last), (2, 5));
    assert_eq!(log.after(5, 10), LogPage { lines: vec![], dropped: 0, last: 5 });
    assert_eq!(texts(&log.after(3, 1).lines), ["d"]);
}

#[test]
fn a_line_of_any_bytes_is_made_fit_to_show() {
    let log = EngineLog::in_memory();
    print(&log, b"\xff\xfe\x1b[31mred\x07\ttab\r\n10%\r20%\r30%\n\xe2\x80\xaeevil\n");
    let lines = log.lines(10);
    assert_eq!(texts(&lines), ["\u{fffd}\u{fffd}\u{241b}[31mred\u{2407}\ttab", "30%", "\u{fffd}evil"]);
}

#[test]
fn a_long_line_is_cut_and_an_unfinished_one_is_kept() {
    let log = EngineLog::in_memory();
    print(&log, &[b'x'; LineCutter::LINE_BYTES_MAX * 2 + 5]);
    let lengths: Vec<usize> = log.lines(10).iter().map(|l| l.text.len()).collect();
    assert_eq!(lengths, [4096, 4096, 5]);
}

proptest! {
    #[test]
    fn lines_do_not_depend_on_how_the_bytes_arrive(
        runs in prop::collection::vec((prop_oneof![Just(b'\n'), Just(b'x'), any::<u8>()], 1_usize..5000), 0..8),
        cuts in prop::collection::vec(1_usize..5000, 0..8),
    ) {
        let bytes: Vec<u8> = runs.iter().flat_map(|(byte, count)| std::iter::repeat_n(*byte, if *byte == b'\n' { count % 3 } else { *count })).collect();
        let collect = |pieces: &[&[u8]]| {
            let mut cutter = LineCutter::default();
            let mut out: Vec<Vec<u8>> = Vec::new();
            for piece in pieces {
                cutter.cut(piece, |lines| out.extend(lines.iter().map(|l| l.to_vec())));
            }
            cutter.finish(|lines| out.extend(lines.iter().map(|l| l.to_vec())));
            out
        };
        let mut pieces: Vec<&[u8]> = Vec::new();
        let mut rest = bytes.as_slice();
        for cut in cuts {
            let (head, tail) = rest.split_at(cut.min(rest.len()));
            pieces.push(head);
            rest = tail;
        }
        pieces.push(rest);
        let whole = collect(&[&bytes]);
        prop_assert!(whole.iter().all(|l| l.len() <= LineCutter::LINE_BYTES_MAX));
        prop_assert_eq!(whole, collect(&pieces));
    }
}

#[test]
fn files_rotate_within_their_limits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs/engine.log");
    let options = EngineLogOptions {
        file: Some(path.clone()),
        file_bytes_max: 200,
        files_max: 3,
        ..Default::default()
    };
    let log = EngineLog::new(options);
    for n in 0..50 {
        print(&log, format!("line {n}\n").as_bytes());
    }
    let mut names: Vec<String> = std::fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["engine.log", "engine.log.1", "engine.log.2"]);
    let newest = std::fs::read_to_string(&path).unwrap();
    assert!(newest.ends_with("line 49\n"), "{newest}");
    assert!(newest.len() <= 200);
}

#[test]
fn a_flood_is_kept_out_of_the_file_but_its_end_is_in_the_ring() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.log");
    let options =
        EngineLogOptions { file: Some(path.clone()), file_bytes_per_second: 1000, ..Default::default() };
    let log = EngineLog::new(options);
    let flood: String = (0..5000).map(|n| format!("flood {n}\n")).collect();
    print(&log, flood.as_bytes());
    assert_eq!(&*log.lines(1)[0].text, "flood 4999");
    assert_eq!(log.dropped(), 4500);
    assert_eq!(log.newest(), 5000);
    log.marker("exited");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("--- 5000 lines left out: printed too fast"), "{text}");
    assert!(text.ends_with("--- exited\n"));
}

#[test]
fn the_allowance_refills_with_time_up_to_its_burst() {
    let start = Moment::from_nanos(1);
    let mut allowance = Allowance::full(100, start);
    assert!(allowance.take(400, start));
    assert!(!allowance.take(1, start));
    assert!(!allowance.take(200, start + Duration::from_secs(1)));
    assert!(allowance.take(200, start + Duration::from_secs(2)));
    assert!(!allowance.take(401, start + Duration::from_secs(3600)));
}

#[test]
fn a_file_that_cannot_be_written_is_said_and_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("not-a-folder");
    std::fs::write(&blocked, "").unwrap();
    let options = EngineLogOptions { file: Some(blocked.join("engine.log")), ..Default::default() };
    let log = EngineLog::new(options);
    print(&log, b"still here\n");
    assert_eq!(texts(&log.lines(1)), ["still here"]);
    assert!(log.file_problem().unwrap().contains("engine.log"));
}

#[test]
fn lines_that_a_full_disk_swallowed_are_counted_in_the_file_when_it_has_room() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("folder");
    std::fs::write(&blocked, "").unwrap();
    let path = blocked.join("engine.log");
    let log = EngineLog::new(EngineLogOptions { file: Some(path.clone()), ..Default::default() });
    let at = WallTime::from_millis(0);
    let write = |now: Moment, line: &[u8]| log.state.lock().write(&[line], LogStream::Output, now, at);
    let start = log.clock.now();
    for line in [b"one", b"two"] {
        write(start, line);
    }
    std::fs::remove_file(&blocked).unwrap();
    write(start + Duration::from_secs(60), b"three");
    write(start + Duration::from_secs(61), b"four");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(' ')).map(|(_, text)| text).collect();
    assert_eq!(
        lines,
        ["--- 2 lines left out: printed too fast, or the file could not be written", "three", "four"]
    );
    assert_eq!(texts(&log.lines(4)), ["one", "two", "three", "four"], "here nothing is lost");
}

#[tokio::test]
async fn a_follower_sees_every_line_once_and_is_told_what_it_missed() {
    let log = Arc::new(EngineLog::new(EngineLogOptions { lines_max: 4, ..Default::default() }));
    let mut follower = log.subscribe(0);
    print(&log, b"a\nb\n");
    assert_eq!(texts(&follower.next(10).await.lines), ["a", "b"]);
    let writer = Arc::clone(&log);
    let waiting = tokio::spawn(async move { (follower.next(10).await, follower) });
    tokio::task::yield_now().await;
    print(&writer, b"c\nd\ne\nf\ng\nh\n");
    let (page, mut follower) = waiting.await.unwrap();
    assert_eq!((texts(&page.lines), page.dropped), (vec!["e", "f", "g", "h"], 2));
    let nothing = tokio::time::timeout(Duration::from_millis(20), follower.next(10)).await;
    assert!(nothing.is_err());
}
