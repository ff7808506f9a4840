//! Has cargo-fuzz run the functions of `tests/hostile/fuzzed`, for as long as wanted. `cargo test`
//! runs them for seconds.

#[path = "../../tests/hostile/fuzzed/mod.rs"]
pub mod fuzzed;

pub use libfuzzer_sys::fuzz_target;

/// Makes the fuzz target of one module of [`fuzzed`], started with that module's seeds.
#[macro_export]
macro_rules! fuzz {
    ($name:ident) => {
        $crate::fuzz_target!(
            init: $crate::plant(stringify!($name), $crate::fuzzed::$name::seeds()),
            |bytes: &[u8]| {
                $crate::fuzzed::$name::check(bytes);
            }
        );
    };
}

/// Writes seeds into the folder in which cargo-fuzz then looks for inputs.
pub fn plant(name: &str, seeds: Vec<Vec<u8>>) {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    std::fs::create_dir_all(&directory).expect("the corpus can be written");
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(directory.join(format!("seed-{number}")), seed)
            .expect("the corpus can be written");
    }
}
