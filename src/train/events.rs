//! The topology event of all sparse matrices after an update.

use std::time::Instant;

use crate::backend::{Activity, Backend};
use crate::error::Result;
use crate::layer::Sparse;
use crate::metrics::{number, start};
use crate::topology::{self, EventInput, schedule};
use crate::train::Trainer;

impl<B: Backend> Trainer<'_, B> {
    /// Removes and regrows links of every sparse matrix (topology §9). Survivors keep value, moments
    /// and age; new links start at zero.
    pub(super) fn evolve(&mut self, t: u64) -> Result<()> {
        let started = Instant::now();
        self.backend.mark(Activity::Topology.into());
        let config = &self.config.topology;
        let (seed, steps) = (self.config.train.seed, self.config.train.steps);
        let sparsity = self.config.budget()?.connectivity_sparsity;
        let zeta = schedule::zeta(config, t, steps);
        let temperature = schedule::removal_temperature(config, t, steps);
        let mut itops = self.itop.iter_mut();
        let (mut links, mut removed, mut returned) = (0, 0, 0);
        for (block, b) in self.model.blocks.iter_mut().enumerate() {
            for (i, p) in b.projections.iter_mut().enumerate() {
                let (rows, cols) = (p.rows, p.cols);
                let Sparse::Links(s) = &mut p.sparse else { continue };
                let rules = topology::rules(&EventInput {
                    config,
                    seed,
                    layer: (7 * block + i) as u32,
                    t,
                    steps,
                    target_nnz: topology::target_nnz(config, rows, cols, sparsity),
                    pattern: &s.csr.pattern,
                    weights: &[],
                })?;
                let evolved = topology::evolve(self.backend, &s.csr, &rules)?;
                let change = s.evolve(self.backend, evolved)?;
                let (name, itop) = itops.next().expect("one per sparse matrix");
                itop.update(&change.pattern)?;
                links += change.pattern.nnz();
                removed += change.removed;
                returned += change.returned;
                if let Some(metrics) = &mut self.metrics {
                    let mut row = start("topology", t);
                    row.insert("layer".into(), name.clone().into());
                    row.insert("nnz".into(), change.pattern.nnz().into());
                    row.insert("removed".into(), change.removed.into());
                    row.insert("regrown".into(), change.regrown.into());
                    row.insert("returned".into(), change.returned.into());
                    row.insert("itop".into(), number(itop.rate()));
                    row.insert("kept16".into(), number(change.pattern.kept_columns(16)));
                    row.insert("zeta".into(), number(zeta));
                    row.insert("temperature".into(), number(temperature));
                    metrics.row(row);
                }
            }
        }
        tracing::debug!(
            "step {t}: {removed} of {links} links removed, {returned} of them regrown at once, in \
             {:.2} s (zeta {zeta:.3})",
            started.elapsed().as_secs_f64()
        );
        Ok(())
    }
}
