//! Where money may go that it might not.

use countersign_core::legible::{Look, in_fours, quoted, word};
use countersign_core::policy::Destination;

use super::sentences::{Sentences, maybe};

pub(super) fn compare(before: &[Destination], after: &[Destination], found: &mut Sentences) {
    let all = || before.iter().chain(after);
    let looks: Vec<Look<'_>> = all().map(|one| Look::of(&one.label)).collect();
    for destination in after.iter().filter(|one| !before.contains(one)) {
        let title = format!("[[destination]] {}", quoted(&destination.label));
        let of_label = before.iter().find(|known| known.label == destination.label);
        let of_place = before.iter().find(|known| place(known) == place(destination));
        match (of_label, of_place) {
            (Some(known), _) => found.add(format!("{title} is another place: {}", moved(known, destination))),
            (None, Some(known)) => {
                let called = quoted(&known.label);
                found.add(format!("{title} is the place that was called {called}: {}", whole(destination)));
            }
            (None, None) => found.add(format!("{title} is new: {}", whole(destination))),
        }
        found.warn_of_looks(&title, &destination.label, looks.iter());
        warn_of_address(&title, destination, all(), found);
    }
}

fn place(one: &Destination) -> (&str, &str, &str, Option<&str>) {
    (&one.asset, &one.network, &one.address, one.memo.as_deref())
}

/// Each field as a person is shown it.
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

/// People compare the ends of an address, and one with the ends of another can be made.
fn warn_of_address<'a>(
    title: &str,
    destination: &Destination,
    others: impl Iterator<Item = &'a Destination>,
    found: &mut Sentences,
) {
    const ENDS: usize = 4;
    let ends = |address: &str| {
        let letters: Vec<char> = address.chars().map(|letter| letter.to_ascii_lowercase()).collect();
        (letters.len() > 2 * ENDS).then(|| [&letters[..ENDS], &letters[letters.len() - ENDS..]].concat())
    };
    let Some(own) = ends(&destination.address) else { return };
    let mut warned = Vec::new();
    for other in others.filter(|other| other.address != destination.address) {
        if ends(&other.address).as_ref() == Some(&own) && !warned.contains(&&other.address) {
            warned.push(&other.address);
            let (this, that) = (quoted(&in_fours(&destination.address)), quoted(&in_fours(&other.address)));
            found.add(format!("{title}: LOOK TWICE, address {this} begins and ends like {that}"));
        }
    }
}
