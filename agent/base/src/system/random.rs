//! Random bytes from the kernel.

use std::cell::RefCell;
use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// Fills `bytes` whole.
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        filled +=
            rustix::io::retry_on_intr(|| getrandom(&mut bytes[filled..], GetRandomFlags::empty()))?;
    }
    Ok(())
}

/// Random bytes of the kernel. Many are fetched at a time, and each is given out once.
struct Stock {
    bytes: [u8; 512],
    given: usize,
}

thread_local! {
    static STOCK: RefCell<Stock> = const { RefCell::new(Stock { bytes: [0; 512], given: 512 }) };
}

/// Random bytes for ids and nonces that are sent out, not for keys: tokens make those. The stock's
/// copy is wiped.
pub fn bytes<const LENGTH: usize>() -> [u8; LENGTH] {
    STOCK.with_borrow_mut(|stock| {
        if stock.bytes.len() - stock.given < LENGTH {
            // This waits until the kernel's pool is ready, and never fails after that.
            let filled = fill(&mut stock.bytes);
            assert!(filled.is_ok(), "the kernel gave no random bytes: {filled:?}");
            stock.given = 0;
        }
        let next = &mut stock.bytes[stock.given..][..LENGTH];
        stock.given += LENGTH;
        let mut bytes = [0; LENGTH];
        bytes.swap_with_slice(next);
        bytes
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn bytes_are_given_out_once() {
        let given: BTreeSet<[u8; 10]> = (0..1_000).map(|_| super::bytes()).collect();
        assert_eq!(given.len(), 1_000);
        super::STOCK
            .with_borrow(|stock| assert!(stock.bytes[..stock.given].iter().all(|byte| *byte == 0)));
    }

    #[test]
    fn fills_every_byte() {
        let mut seen = [0_u8; 64];
        for _ in 0..64 {
            let mut bytes = [0; 64];
            super::fill(&mut bytes).expect("the kernel has randomness");
            seen.iter_mut().zip(bytes).for_each(|(seen, byte)| *seen |= byte);
        }
        assert!(seen.iter().all(|byte| *byte != 0));
    }
}
