//! Slugs like `brave-tiger`, derived so that a rebuilt cluster gives an Environment the same name (pure).

use super::words::{ADJECTIVES, NOUNS};
use crate::controllers::seed;

/// From this collision on a slug gets four hex digits, so that a fleet larger than the word lists still finds names.
const NUMBERED: u32 = 8;

/// The slug of the Environment `namespace/name` in the zone object `zone`, after `collisions` names that were taken: a
/// DNS label of at most 25 characters, the same for ever.
#[must_use]
pub fn derive(namespace: &str, name: &str, zone: &str, collisions: u32) -> String {
    let hash = seed(namespace, name, zone, collisions);
    // Each list has 256 words: one byte of the hash picks evenly.
    let (adjective, noun) = (ADJECTIVES[usize::from(hash[0])], NOUNS[usize::from(hash[1])]);
    if collisions < NUMBERED {
        format!("{adjective}-{noun}")
    } else {
        format!("{adjective}-{noun}-{}", data_encoding::HEXLOWER.encode(&hash[2..4]))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::api::names::Fqdn;

    #[test]
    fn slugs_are_the_same_for_ever() {
        let derived = [
            derive("shop", "review-42", "example-com", 0),
            derive("shop", "review-42", "example-com", 1),
            derive("shop", "review-42", "example-com", 8),
            derive("shop", "review-43", "example-com", 0),
            derive("blog", "review-42", "example-com", 0),
            derive("shop", "review-42", "example-net", 0),
        ];
        assert_eq!(
            derived,
            ["brisk-tern", "helpful-planet", "quiet-acorn-37ee", "alpine-starling", "flying-magpie", "artful-apple"]
        );
    }

    #[test]
    fn the_word_lists_never_change() {
        let all = format!("{}|{}", ADJECTIVES.join(" "), NOUNS.join(" "));
        let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(all));
        assert_eq!(hash, "edc67a4408acf11a6c798711101301382bb88b574b95e82d448a367cc33b95c4");
    }

    #[test]
    fn every_word_is_short_lower_case_and_there_once() {
        for list in [ADJECTIVES, NOUNS] {
            assert!(list.iter().all(|w| (2..=12).contains(&w.len()) && w.bytes().all(|b| b.is_ascii_lowercase())));
            assert_eq!(list.iter().collect::<HashSet<_>>().len(), 256);
        }
    }

    proptest! {
        #[test]
        fn every_slug_is_a_label_that_fits(name in "[a-z0-9][a-z0-9-]{0,46}", collisions in 0_u32..40) {
            let slug = derive("shop", &name, "example-com", collisions);
            prop_assert!(slug.len() <= 40);
            let fqdn = Fqdn::parse(&format!("{slug}.example.com"));
            prop_assert!(fqdn.is_ok(), "{slug}");
        }

        #[test]
        fn a_collision_leads_to_another_slug_within_a_few_tries(name in "[a-z]{1,20}") {
            let tried: HashSet<_> = (0..6).map(|n| derive("shop", &name, "z", n)).collect();
            prop_assert!(tried.len() >= 5);
        }
    }
}
