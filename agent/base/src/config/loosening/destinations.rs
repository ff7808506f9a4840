//! Finds places to which money may go now and could not go before.

use std::collections::{BTreeMap, BTreeSet};

use countersign_core::legible::{LegibleName, in_fours, quoted, word};
use countersign_core::policy::Destination;

use super::sentences::{Sentences, maybe};

pub(super) fn compare(before: &[Destination], after: &[Destination], found: &mut Sentences) {
    let all = || before.iter().chain(after);
    let looks: Vec<LegibleName<'_>> = all().map(|one| LegibleName::of(&one.label)).collect();
    let addresses: BTreeMap<&str, Address<'_>> =
        all().map(|one| (&*one.address, Address::of(&one.address))).collect();
    for destination in after.iter().filter(|one| !before.contains(one)) {
        let title = format!("[[destination]] {}", quoted(&destination.label));
        let of_label = before.iter().find(|known| known.label == destination.label);
        let of_address =
            before.iter().find(|known| money_goes_to(known) == money_goes_to(destination));
        match (of_label, of_address) {
            (Some(known), _) => {
                found.add(format!("{title} is another place: {}", moved(known, destination)))
            }
            (None, Some(known)) => {
                let called = quoted(&known.label);
                found.add(format!(
                    "{title} is the place that was called {called}: {}",
                    whole(destination)
                ));
            }
            (None, None) => found.add(format!("{title} is new: {}", whole(destination))),
        }
        found.warn_of_looks(&title, &destination.label, looks.iter());
        warn_of_same_address(&title, destination, all(), found);
        warn_of_addresses(&title, &destination.address, &addresses, found);
    }
}

fn money_goes_to(one: &Destination) -> (&str, &str, &str, Option<&str>) {
    (&one.asset, &one.network, &one.address, one.memo.as_deref())
}

/// Each field, as an approver is shown it.
fn fields(destination: &Destination) -> [(&'static str, String); 4] {
    let Destination { label: _, asset, network, address, memo } = destination;
    [
        ("asset", word(asset)),
        ("network", word(network)),
        ("address", quoted(&in_fours(address))),
        ("memo", maybe(memo.as_deref())),
    ]
}

fn whole(destination: &Destination) -> String {
    fields(destination).map(|(field, value)| format!("{field} {value}")).join(", ")
}

fn moved(before: &Destination, after: &Destination) -> String {
    let pairs = fields(before).into_iter().zip(fields(after));
    let shown = pairs.map(|((field, before), (_, after))| match before == after {
        true => format!("{field} {after}"),
        false => format!("{field} from {before} to {after}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Warns of another destination with the same address. If many persons share an address, only the
/// memo says who gets the money.
fn warn_of_same_address<'a>(
    title: &str,
    destination: &Destination,
    others: impl Iterator<Item = &'a Destination>,
    found: &mut Sentences,
) {
    let on_network = |one: &'a Destination| (&one.asset, &one.network, &one.address);
    let own = (&destination.asset, &destination.network, &destination.address);
    let shared: BTreeSet<(&str, Option<&str>)> = others
        .filter(|other| other.memo != destination.memo && on_network(other) == own)
        .filter(|other| other.label != destination.label)
        .map(|other| (&*other.label, other.memo.as_deref()))
        .collect();
    for (label, memo) in shared {
        found.add(format!(
            "{title}: LOOK TWICE, {} is the same address with memo {}",
            quoted(label),
            maybe(memo)
        ));
    }
}

/// An address made ready to be compared with many others.
#[derive(Debug)]
struct Address<'a> {
    text: &'a str,
    letters: Vec<char>,
    /// The first and the last letters, in lower case; `None` for a short address.
    ends: Option<String>,
    look: LegibleName<'a>,
}

/// People may overlook a difference of this many letters.
const FEW: usize = 2;

impl<'a> Address<'a> {
    fn of(text: &'a str) -> Self {
        let letters: Vec<char> = text.chars().collect();
        Self { text, ends: ends(&letters), letters, look: LegibleName::of(text) }
    }

    /// If this address looks like the other, says in what way. People compare only the ends, and an
    /// attacker can make an address with the same ends.
    fn like(&self, other: &Self) -> Option<String> {
        let differing = differing(&self.letters, &other.letters);
        if (1..=FEW).contains(&differing.len()) && self.letters.len() > FEW {
            let letters = if differing.len() == 1 { "letter" } else { "letters" };
            let places: Vec<String> = differing.iter().map(ToString::to_string).collect();
            return Some(format!("differs only in {letters} {} from", places.join(", ")));
        }
        if self.ends.is_some() && self.ends == other.ends {
            return Some("begins and ends like".to_owned());
        }
        self.look.like(&other.look).map(|_| "looks like".to_owned())
    }
}

fn ends(letters: &[char]) -> Option<String> {
    const END_LETTERS: usize = 4;
    let (first, last) =
        (letters.first_chunk::<END_LETTERS>()?, letters.last_chunk::<END_LETTERS>()?);
    let ends = || first.iter().chain(last).map(char::to_ascii_lowercase).collect();
    (letters.len() > 2 * END_LETTERS).then(ends)
}

/// Warns of an address that a person may take for another one.
fn warn_of_addresses(
    title: &str,
    address: &str,
    others: &BTreeMap<&str, Address<'_>>,
    found: &mut Sentences,
) {
    let Some(own) = others.get(address) else { return };
    for other in others.values().filter(|other| other.text != address) {
        if let Some(likeness) = own.like(other) {
            let (this, that) = (quoted(&in_fours(address)), quoted(&in_fours(other.text)));
            found.add(format!("{title}: LOOK TWICE, address {this} {likeness} {that}"));
        }
    }
}

/// Places of the letters in which `own` differs from `other`, counted from 1. Only the first few
/// are listed. If one of the two has one letter more and they agree in all others, it is the place
/// of that letter.
fn differing(own: &[char], other: &[char]) -> Vec<usize> {
    let mut differing = own
        .iter()
        .zip(other)
        .enumerate()
        .filter(|(_, (one, other))| one != other)
        .map(|(at, _)| at + 1);
    if own.len() == other.len() {
        return differing.take(FEW + 1).collect();
    }
    let (shorter, longer) = if own.len() < other.len() { (own, other) } else { (other, own) };
    let first = differing.next().unwrap_or(shorter.len() + 1);
    let is_all = longer.len() - shorter.len() == 1 && longer[first..] == shorter[first - 1..];
    if is_all { vec![first] } else { Vec::new() }
}
