//! The one random generator: Philox 4x32-10 (Salmon et al., SC'11), counter-based.
//!
//! A draw is a pure function of (seed, purpose, layer, event, index), so results do not depend on
//! threads, on devices or on what else was drawn, and nothing but the seed has to be checkpointed.
//! [`ln`] is built from IEEE additions, multiplications and divisions alone, so that every backend
//! computes the same bits from the same formula.

/// What a stream of draws is for; part of the counter, so streams never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Initial weights.
    Init = 1,
    /// Initial topology.
    Topology = 2,
    /// Soft removal of links.
    Removal = 3,
    /// Soft regrowth of links.
    Regrowth = 4,
    /// Order of the training data.
    Data = 5,
    /// Sampling of tokens when generating text.
    Sampling = 6,
    /// The built-in demonstration corpus.
    Corpus = 7,
    /// Assignment of documents to the validation split.
    Split = 8,
}

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Philox 4x32-10: ten rounds on a 128-bit counter with a 64-bit key.
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p0 = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let p1 = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (p1 >> 32) as u32 ^ counter[1] ^ key[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ counter[3] ^ key[1],
            p0 as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// A stream of draws for one (seed, purpose, layer, event), addressed by index.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    key: [u32; 2],
    high: [u32; 2],
}

impl Stream {
    /// Stream of `seed` for `purpose`; `layer` (< 2²⁴) and `event` separate its uses.
    pub fn new(seed: u64, purpose: Purpose, layer: u32, event: u32) -> Self {
        debug_assert!(layer < 1 << 24);
        Stream {
            key: [seed as u32, (seed >> 32) as u32],
            high: [u32::from(purpose as u8) << 24 | layer, event],
        }
    }

    /// Key and upper half of the counter, for a device that draws the same words.
    pub fn parts(&self) -> ([u32; 2], [u32; 2]) {
        (self.key, self.high)
    }

    /// Four 32-bit words at `index`.
    pub fn words(&self, index: u64) -> [u32; 4] {
        philox4x32([index as u32, (index >> 32) as u32, self.high[0], self.high[1]], self.key)
    }

    /// 64 random bits at `index`.
    pub fn bits(&self, index: u64) -> u64 {
        let w = self.words(index);
        u64::from(w[0]) << 32 | u64::from(w[1])
    }

    /// Uniform in the open interval (0, 1), 53 bits: never 0, never 1.
    pub fn uniform(&self, index: u64) -> f64 {
        open_unit(self.bits(index))
    }

    /// Uniform integer in `0..bound` (multiply-shift; bias below 2⁻³² for bounds below 2³²).
    pub fn below(&self, index: u64, bound: u64) -> u64 {
        ((u128::from(self.bits(index)) * u128::from(bound)) >> 64) as u64
    }

    /// Standard Gumbel draw `-ln(-ln U)`: adding it to log-weights and taking the largest k keys
    /// samples k items without replacement with probability proportional to the weights.
    pub fn gumbel(&self, index: u64) -> f64 {
        -ln(-ln(self.uniform(index)))
    }

    /// Standard normal draw (Box-Muller, cosine branch).
    pub fn normal(&self, index: u64) -> f64 {
        let w = self.words(index);
        let u = open_unit(u64::from(w[0]) << 32 | u64::from(w[1]));
        let v = open_unit(u64::from(w[2]) << 32 | u64::from(w[3]));
        (-2.0 * ln(u)).sqrt() * libm::cos(2.0 * std::f64::consts::PI * v)
    }
}

fn open_unit(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64)
}

/// Natural logarithm of a non-negative double; `ln(0) = -inf`.
///
/// `x = 2^k·m` with m in [√½, √2), `ln m = 2·artanh((m-1)/(m+1))` as an odd series up to s²³;
/// relative error below 4e-16. Only additions, multiplications and divisions, never contracted,
/// so that a device computes the same bits.
pub fn ln(x: f64) -> f64 {
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if !(x > 0.0 && x < f64::INFINITY) {
        return if x == f64::INFINITY { x } else { f64::NAN };
    }
    let mut bits = x.to_bits();
    let mut exponent = -1023i64;
    if bits >> 52 == 0 {
        bits = (x * 18014398509481984.0).to_bits(); // 2^54: subnormals become normal
        exponent -= 54;
    }
    exponent += (bits >> 52) as i64;
    let mut m = f64::from_bits(bits & 0x000F_FFFF_FFFF_FFFF | 0x3FF0_0000_0000_0000);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1;
    }
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut p = 1.0 / 23.0;
    for n in (0..11).rev() {
        p = p * z + 1.0 / (2 * n + 1) as f64;
    }
    let k = exponent as f64;
    // ln 2 in two parts: the high one has 32 trailing zero bits, so k·high is exact.
    k * 6.931_471_803_691_238e-1 + (k * 1.908_214_929_270_587_7e-10 + 2.0 * s * p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_matches_the_published_vectors() {
        // Known answers of Random123's kat_vectors for philox4x32-10.
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(
            philox4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]
        );
        assert_eq!(
            philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    fn ln_is_accurate_everywhere() {
        let stream = Stream::new(3, Purpose::Init, 0, 0);
        for i in 0..20_000u64 {
            let x = f64::from_bits(stream.bits(i) >> 1);
            if !x.is_finite() || x == 0.0 {
                continue;
            }
            let (got, want) = (ln(x), libm::log(x));
            assert!((got - want).abs() <= 1e-15 * want.abs().max(1e-16), "ln({x:e}) {got} {want}");
        }
        for x in [1.0, 0.5, 2.0, 1.0 + f64::EPSILON, 1.0 - 1e-16, 0.999, 1.001, 5e-324] {
            let (got, want) = (ln(x), libm::log(x));
            assert!((got - want).abs() <= 1e-15 * want.abs(), "ln({x:e}) {got} {want}");
        }
        assert_eq!(ln(0.0), f64::NEG_INFINITY);
        assert!(ln(-1.0).is_nan() && ln(f64::NAN).is_nan());
    }

    #[test]
    fn normal_and_gumbel_have_their_moments() {
        let s = Stream::new(11, Purpose::Init, 1, 2);
        let n = 200_000u64;
        let (mut m1, mut m2, mut g1) = (0.0, 0.0, 0.0);
        for i in 0..n {
            let x = s.normal(i);
            m1 += x;
            m2 += x * x;
            g1 += s.gumbel(i);
        }
        let n = n as f64;
        // Five standard errors; the Gumbel law has mean 0.5772 and standard deviation π/√6.
        assert!((m1 / n).abs() < 5.0 / n.sqrt());
        assert!((m2 / n - 1.0).abs() < 5.0 * (2.0 / n).sqrt());
        assert!((g1 / n - 0.577_215_664_9).abs() < 5.0 * 1.2826 / n.sqrt());
    }

    #[test]
    fn streams_differ_in_every_coordinate() {
        let base = Stream::new(1, Purpose::Init, 1, 1).bits(1);
        for other in [
            Stream::new(2, Purpose::Init, 1, 1).bits(1),
            Stream::new(1, Purpose::Data, 1, 1).bits(1),
            Stream::new(1, Purpose::Init, 2, 1).bits(1),
            Stream::new(1, Purpose::Init, 1, 2).bits(1),
            Stream::new(1, Purpose::Init, 1, 1).bits(2),
        ] {
            assert_ne!(base, other);
        }
    }
}
