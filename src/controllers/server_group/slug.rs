//! Slugs like `web-k3x9q1`, derived so that a rebuilt cluster gives a group the same name (pure).

use crate::controllers::seed;

const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const LENGTH: usize = 6;

/// The slug of the group `namespace/name` in the zone object `zone`, after `collisions` slugs that were taken:
/// `<name>-<6 of a-z0-9>`, the same for ever.
#[must_use]
pub fn derive(namespace: &str, name: &str, zone: &str, collisions: u32) -> String {
    let hash = seed(namespace, name, zone, collisions);
    // Two bytes a character: 65,536 divides by 36 evenly enough.
    let character = |pair: &[u8]| {
        let number = usize::from(u16::from_be_bytes([pair[0], pair[1]]));
        char::from(ALPHABET[number % ALPHABET.len()])
    };
    let suffix: String = hash.chunks_exact(2).take(LENGTH).map(character).collect();
    format!("{name}-{suffix}")
}

/// A slug for a group that people call `name`: what of it DNS admits, then six characters that `random` chooses. At most
/// 48 characters, because the object is called so too.
#[must_use]
pub fn of_display_name(name: &str, random: u64) -> String {
    let mut words = String::new();
    for c in name.to_lowercase().chars() {
        if c.is_ascii_alphanumeric() {
            words.push(c);
        } else if !words.is_empty() && !words.ends_with('-') {
            words.push('-');
        }
    }
    words.truncate(48 - 1 - LENGTH);
    let words = words.trim_end_matches('-');
    let words = if words.is_empty() { "group" } else { words };
    let character = |place: u32| {
        let number = random / 36_u64.pow(place) % 36;
        ALPHABET.get(usize::try_from(number).unwrap_or(0)).copied().map_or('a', char::from)
    };
    let suffix: String = (0..6_u32).map(character).collect();
    format!("{words}-{suffix}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::names::Fqdn;

    #[test]
    fn a_display_name_becomes_what_dns_admits_of_it() {
        for (name, slug) in [
            ("My Web Servers", "my-web-servers-aaaaaa"),
            ("  --a..b//c--  ", "a-b-c-aaaaaa"),
            ("Größe 2", "gr-e-2-aaaaaa"),
            ("日本", "group-aaaaaa"),
            ("rs--mine", "rs-mine-aaaaaa"),
        ] {
            assert_eq!(of_display_name(name, 0), slug);
        }
        assert_eq!(of_display_name("a", 36 + 2), "a-cbaaaa");
    }

    proptest! {
        #[test]
        fn every_display_name_makes_a_name_of_an_object_and_a_label(name in ".{1,100}", random: u64) {
            let slug = of_display_name(&name, random);
            prop_assert!(slug.len() <= 48, "{slug}");
            let label = Fqdn::parse(&format!("_wrap.{slug}.example.com"));
            prop_assert!(label.is_ok(), "{slug}");
        }

        #[test]
        fn every_slug_is_a_label_that_fits(name in "[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?", collisions in 0_u32..40) {
            let slug = derive("shop", &name, "example-com", collisions);
            prop_assert_eq!(slug.len(), name.len() + 7);
            let fqdn = Fqdn::parse(&format!("_wrap.{slug}.example.com"));
            prop_assert!(fqdn.is_ok() || slug.starts_with("rs--"), "{slug}");
        }

        #[test]
        fn namespace_zone_and_collisions_lead_to_other_slugs(name in "[a-z]{1,20}") {
            let first = derive("shop", &name, "z", 0);
            for other in [derive("blog", &name, "z", 0), derive("shop", &name, "y", 0), derive("shop", &name, "z", 1)] {
                prop_assert_ne!(&first, &other);
            }
        }
    }
}
