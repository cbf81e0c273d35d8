use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn node() -> Node {
    Node { nonce: "0123456789abcdef".into(), health_path: "/".into() }
}

fn document(hosts: &Value) -> Value {
    json!({"version": 1, "node": {"nonce": "0123456789abcdef", "healthPath": "/"}, "hosts": hosts})
}

fn refusal(document: &Value) -> String {
    Table::parse(document.to_string().as_bytes()).unwrap_err().to_string()
}

fn host() -> impl Strategy<Value = String> {
    vec("[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", 1..5)
        .prop_map(|labels| labels.join("."))
        .prop_filter("a label that is kept for us", |name| Fqdn::parse(name).is_ok())
}

fn peer() -> impl Strategy<Value = Option<SocketAddr>> {
    prop_oneof![
        Just(None),
        any::<SocketAddr>().prop_filter("a zone is not written", SocketAddr::is_ipv4).prop_map(Some)
    ]
}

fn route() -> impl Strategy<Value = Route> {
    let alias = prop_oneof![host(), Just("10.0.0.7".to_owned()), Just("2001:db8::7".to_owned())];
    prop_oneof![
        (alias, 1..=u16::MAX, peer()).prop_map(|(alias, port, peer)| Route::Upstream {
            alias: alias.into(),
            port,
            peer
        }),
        (host(), prop::sample::select(vec![301, 302, 307, 308]), peer()).prop_map(|(to, code, peer)| Route::Redirect {
            to: format!("{to}.example").into(),
            code,
            peer
        }),
        Just(Route::Maintenance),
        Just(Route::Unavailable),
        Just(Route::Placeholder),
    ]
}

fn table() -> impl Strategy<Value = Table> {
    hash_map(host().prop_map(|host| format!("{host}.test")), route(), 0..20)
        .prop_map(|routes| Table::new(node(), routes).unwrap())
}

/// Any JSON at all, with the words of a table in it.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "version",
        "node",
        "hosts",
        "nonce",
        "healthPath",
        "upstream",
        "redirect",
        "alias",
        "port",
        "to",
        "code",
        "maintenance",
        "a.example",
        "/",
        "0123456789abcdef",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..3u64).prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            hash_map(word.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_table_is_the_same_after_it_was_written_and_read(table in table()) {
        let again = Table::parse(table.json().as_bytes()).unwrap();
        prop_assert_eq!(&again, &table);
        prop_assert_eq!(again.json(), table.json());
    }

    #[test]
    fn every_host_is_found_in_any_case_with_a_dot_and_with_a_port(table in table(), port in any::<u16>()) {
        for (host, route) in table.iter() {
            let upper = host.to_ascii_uppercase();
            for spelled in [host, &upper, &format!("{host}."), &format!("{host}:{port}"), &format!("{upper}.:{port}")] {
                prop_assert_eq!(table.lookup(spelled), Some(route), "{}", spelled);
            }
            for other in [format!("x{host}"), format!("{host}x"), format!("{host}.."), format!(".{host}")] {
                prop_assert!(table.lookup(&other).is_none() || table.iter().any(|(name, _)| name == other));
            }
        }
    }

    #[test]
    fn any_host_header_has_an_answer(table in table(), host in any::<String>()) {
        let _ = table.lookup(&host);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
        prop_assert!(Table::parse(&bytes).is_err());
    }

    #[test]
    fn no_json_makes_it_panic(json in any_json()) {
        let _ = Table::parse(json.to_string().as_bytes());
        let _ = Table::parse(document(&json).to_string().as_bytes());
        let _ = Table::parse(document(&json!({"a.example": json})).to_string().as_bytes());
    }
}

#[test]
fn the_json_is_what_the_routers_in_the_field_read() {
    let routes = [
        ("b.example", Route::Redirect { to: "a.example".into(), code: 301, peer: None }),
        ("a.example", Route::Upstream { alias: "shop-web-7".into(), port: 8080, peer: None }),
        ("c.example", Route::Maintenance),
        ("d.example", Route::Unavailable),
        ("e.example", Route::Placeholder),
    ];
    let table = Table::new(node(), routes).unwrap();
    let expected = r#"{"version":1,"node":{"nonce":"0123456789abcdef","healthPath":"/"},"hosts":{"a.example":{"upstream":{"alias":"shop-web-7","port":8080}},"b.example":{"redirect":{"to":"a.example","code":301}},"c.example":"maintenance","d.example":"unavailable","e.example":"placeholder"}}"#;
    assert_eq!(table.json(), expected);
    assert_eq!(table.hash().len(), 16);
    assert_eq!((table.len(), table.is_empty()), (5, false));
}

#[test]
fn a_redirect_without_a_code_is_for_good() {
    let table = Table::parse(document(&json!({"b.example": {"redirect": {"to": "a.example"}}})).to_string().as_bytes());
    let route = Route::Redirect { to: "a.example".into(), code: 308, peer: None };
    assert_eq!(table.unwrap().lookup("b.example"), Some(&route));
}

#[test]
fn a_refusal_names_the_host_and_the_field() {
    let upstream = |fields: Value| json!({"a.example": {"upstream": fields}});
    for (hosts, words) in [
        (json!({"A.example": "maintenance"}), "host \"A.example\": `A` is not a DNS label"),
        (json!({"*.example": "maintenance"}), "host \"*.example\": `*.example` is a wildcard"),
        (json!({"a.example": "gone"}), "host \"a.example\": has no route: use {\"upstream\""),
        (json!({"a.example": null}), "host \"a.example\": has no route"),
        (json!({"a.example": {"upstream": 1}}), "host \"a.example\": has no route"),
        (json!({"a.example": {"upstream": {}, "redirect": {}}}), "host \"a.example\": has no route"),
        (upstream(json!({"port": 80})), "host \"a.example\", field upstream.alias: is missing"),
        (upstream(json!({"alias": 7, "port": 80})), "host \"a.example\", field upstream.alias: is no text"),
        (upstream(json!({"alias": "a b", "port": 80})), "field upstream.alias: `a b` is not a DNS label"),
        (upstream(json!({"alias": "a:80/x", "port": 80})), "field upstream.alias: `a:80/x` is not a DNS label"),
        (upstream(json!({"alias": "web"})), "host \"a.example\", field upstream.port: is missing"),
        (upstream(json!({"alias": "web", "port": "80"})), "field upstream.port: \"80\" is no number from 0 to 65535"),
        (upstream(json!({"alias": "web", "port": 65536})), "field upstream.port: 65536 is no number from 0 to 65535"),
        (upstream(json!({"alias": "web", "port": 0})), "host \"a.example\", field upstream.port: 0 is no port"),
        (upstream(json!({"alias": "web", "port": 80, "tls": true})), "field upstream.tls: is unknown"),
        (json!({"a.example": {"redirect": {"to": "a.example"}}}), "field redirect.to: leads to itself"),
        (json!({"a.example": {"redirect": {"to": "b.example/x"}}}), "field redirect.to: `example/x` is not"),
        (
            json!({"a.example": {"redirect": {"to": "b.example", "code": 200}}}),
            "field redirect.code: 200 is no redirect",
        ),
    ] {
        let said = refusal(&document(&hosts));
        assert!(said.contains(words), "{said}\nlacks {words}");
    }
}

#[test]
fn a_refusal_names_the_field_of_what_is_no_host() {
    let with = |field: &str, value: Value| {
        let mut whole = document(&json!({}));
        whole[field] = value;
        refusal(&whole)
    };
    assert!(with("version", json!(2)).contains("field version: this is a table of version 2, and 1 is read here"));
    // Not what else may be new in it.
    let newer = json!({"version": 2, "sites": []});
    assert!(refusal(&newer).starts_with("field version: "), "{}", refusal(&newer));
    assert!(refusal(&json!({})).contains("field version: is missing"));
    assert!(refusal(&json!({"version": 1, "hosts": {}})).contains("field node: is missing"));
    assert!(with("extra", json!(1)).contains("field extra: is unknown"));
    assert!(with("node", json!({"nonce": "short", "healthPath": "/"})).contains("field node.nonce: use 16 to 64"));
    assert!(with("node", json!({"nonce": "0123456789abcdef"})).contains("field node.healthPath: is missing"));
    let path = with("node", json!({"nonce": "0123456789abcdef", "healthPath": "/a b"}));
    assert!(path.contains("field node.healthPath: \"/a b\" is no path"), "{path}");
    let twice = r#"{"version":1,"node":{"nonce":"0123456789abcdef","healthPath":"/"},
        "hosts":{"a.example":"maintenance","a.example":"placeholder"}}"#;
    let said = Table::parse(twice.as_bytes()).unwrap_err().to_string();
    assert!(said.contains("host \"a.example\": is there twice"), "{said}");
    for cut in [&twice[..40], "", "{\"version\":1} x"] {
        let said = Table::parse(cut.as_bytes()).unwrap_err().to_string();
        assert!(said.contains("the table is no JSON"), "{said}");
    }
}

#[test]
fn the_table_in_the_readme_is_one() {
    let section = include_str!("../../README.md").split("\n## The router of a host\n").nth(1).unwrap();
    let json = section.split("```json").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(Table::parse(json.as_bytes()).unwrap().len(), 5);
}

#[test]
fn the_alias_of_an_app_is_an_upstream_and_no_name_of_a_host() {
    let alias = crate::host::compose::overlay::alias("c1-shop", "0123456789");
    let route = Route::Upstream { alias: alias.as_str().into(), port: 8080, peer: None };
    let table = Table::new(node(), [("shop.example.com", route.clone())]).unwrap();
    assert_eq!(Table::parse(table.json().as_bytes()).unwrap().lookup("shop.example.com"), Some(&route));
    assert!(Table::new(node(), [(alias.as_str(), Route::Placeholder)]).is_err());
    let nobody = Route::Upstream { alias: "rs--".into(), port: 8080, peer: None };
    assert!(Table::new(node(), [("shop.example.com", nobody)]).is_err());
}

#[test]
fn an_app_replaces_its_own_names_and_the_nodes_own_is_never_without_an_answer() {
    let upstream = |alias: &str| Route::Upstream { alias: format!("{UPSTREAM}{alias}").into(), port: 80, peer: None };
    let before =
        Table::new(node(), [("a.test", upstream("a")), ("old.test", upstream("a")), ("b.test", upstream("b"))]);
    let names = BTreeSet::from(["a.test".to_owned(), "old.test".to_owned()]);
    let routes = BTreeMap::from([("a.test".to_owned(), upstream("a2")), ("new.test".to_owned(), upstream("a2"))]);
    let after = before.clone().unwrap().with(&names, &routes, Some("n1.test")).unwrap();
    let said: BTreeMap<_, _> = after.iter().map(|(name, route)| (name, route.clone())).collect();
    let expected = [("a.test", upstream("a2")), ("new.test", upstream("a2")), ("b.test", upstream("b"))];
    let own = [("n1.test", Route::Placeholder)];
    assert_eq!(said, expected.into_iter().chain(own).collect());
    let taken = after.with(&BTreeSet::from(["n1.test".to_owned()]), &BTreeMap::new(), Some("n1.test")).unwrap();
    assert_eq!(taken.lookup("n1.test"), Some(&Route::Placeholder));
}
