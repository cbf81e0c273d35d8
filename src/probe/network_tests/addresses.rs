//! Names and addresses: what is refused, and that nothing else is connected to than what was checked.

use super::*;

#[tokio::test]
async fn addresses_that_are_not_allowed_are_never_connected_to_in_any_spelling() {
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = visits.clone();
    let port = server(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async {}
    })
    .await;
    let strict = Network::new(Vec::new(), None).unwrap();
    for address in [
        "127.0.0.1",
        "::ffff:127.0.0.1",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "localhost",
    ] {
        for check in [
            Check::Tcp { address: address.to_owned(), port },
            Check::Http(HttpCheck { address: address.to_owned(), ..http_check(port) }),
        ] {
            let (reason, message) = failure(&strict, check, PATIENT).await;
            // Depending on the C library, a number that is no address is a name that does not exist.
            let refused = reason == reason::ADDRESS_REFUSED;
            let numeric = ["127.1", "2130706433", "0x7f.0.0.1"].contains(&address);
            assert!(refused || (numeric && reason == reason::DNS_FAILURE), "{address}: {reason} {message}");
        }
    }
    assert_eq!(visits.load(Ordering::SeqCst), 0);
    let check = Check::Tcp { address: "169.254.169.254".to_owned(), port: 80 };
    let expected = "169.254.169.254 is a metadata service: only --probe-allow-cidr lets it be probed";
    assert_eq!(failure(&network(), check, PATIENT).await, (reason::ADDRESS_REFUSED, expected.to_owned()));
}

#[tokio::test]
async fn one_forbidden_address_of_a_name_forbids_them_all() {
    let answers = names([Ok(vec![local(1), "10.0.0.5".parse().unwrap(), local(2)])]);
    let network = Network::with_resolver(answers, loopback(), None).unwrap();
    let port = answering(status(200)).await;
    let check = HttpCheck { address: "mixed.example.com".to_owned(), ..http_check(port) };
    let expected = "`mixed.example.com` has the address 10.0.0.5, which is a private address: only --probe-allow-cidr \
                    lets it be probed";
    assert_eq!(failure(&network, Check::Http(check), PATIENT).await, (reason::ADDRESS_REFUSED, expected.to_owned()));
}

#[tokio::test]
async fn a_name_is_resolved_once_and_exactly_the_checked_address_is_connected_to() {
    // First an allowed address, then the metadata service: whoever asks twice goes wrong.
    let rebinding = names([Ok(vec![local(1)]), Ok(vec!["169.254.169.254".parse().unwrap()])]);
    let network = Network::with_resolver(rebinding.clone(), loopback(), None).unwrap();
    let port = answering(status(200)).await;
    let check = Check::Http(HttpCheck { address: "rebind.example.com".to_owned(), ..http_check(port) });
    assert_eq!(probe(&network, check.clone(), PATIENT).await, Outcome::Success);
    assert_eq!(rebinding.1.load(Ordering::SeqCst), 1);
    assert_eq!(failure(&network, check, PATIENT).await.0, reason::ADDRESS_REFUSED, "the next probe resolves anew");
    assert_eq!(rebinding.1.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_next_address_of_a_name_is_tried_if_one_does_not_accept() {
    let answers = names([Ok(vec![local(9), local(8)])]);
    let network = Network::with_resolver(answers, loopback(), None).unwrap();
    let port = server_at(local(9), 0, |mut stream| async move {
        head(&mut stream).await;
        let _ = stream.write_all(status(200).as_bytes()).await;
        gone(&mut stream).await;
    })
    .await;
    let check = |port| Check::Http(HttpCheck { address: "two.example.com".to_owned(), ..http_check(port) });
    assert_eq!(probe(&network, check(port), PATIENT).await, Outcome::Success);
    let free = TcpListener::bind((local(9), 0)).await.unwrap().local_addr().unwrap().port();
    let (reason, message) = failure(&network, check(free), PATIENT).await;
    assert_eq!(reason, reason::CONNECTION_REFUSED);
    assert!(message.starts_with("127.0.0.8:"), "always the failure of the same address: {message}");
}

#[tokio::test]
async fn names_that_do_not_resolve_are_failures_of_the_name() {
    let words = io::Error::other("failed to lookup address information: Name or service not known");
    let answers = names([Ok(Vec::new()), Err(words)]);
    let network = Network::with_resolver(answers, loopback(), None).unwrap();
    let check = Check::Tcp { address: "gone.example.com".to_owned(), port: 80 };
    for why in ["it has no address", "Name or service not known"] {
        let expected = format!("`gone.example.com` cannot be resolved ({why}): check the name and its zone");
        assert_eq!(failure(&network, check.clone(), PATIENT).await, (reason::DNS_FAILURE, expected));
    }
    // `.invalid` never exists (RFC 6761), whatever the machine's resolver.
    let system = Network::new(Vec::new(), None).unwrap();
    let check = Check::Tcp { address: "roadstead.invalid".to_owned(), port: 80 };
    assert_eq!(failure(&system, check, PATIENT).await.0, reason::DNS_FAILURE);
}

#[tokio::test]
async fn a_shortage_of_our_own_is_no_failure_of_the_target() {
    let answers = names([Err(io::Error::from_raw_os_error(24)), Ok(vec![local(1)])]);
    let network = Network::with_resolver(answers, loopback(), None).unwrap();
    let port = answering(status(200)).await;
    let check = Check::Http(HttpCheck { address: "web.example.com".to_owned(), ..http_check(port) });
    assert!(matches!(probe(&network, check.clone(), PATIENT).await, Outcome::Inconclusive(_)));
    assert_eq!(probe(&network, check, PATIENT).await, Outcome::Success);
}
