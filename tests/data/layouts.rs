//! Rows, targets and order against expectations written by hand.

use chtsl::config::Layout;
use chtsl::data::{Batch, Dataset, DatasetOptions, NO_TARGET as N, Order, Split};

use super::shards::foreign;

const EOS: u32 = 9;

fn dataset(tokens: &[u32], layout: Layout, seq_len: usize, document_mask: bool) -> Dataset {
    let options = DatasetOptions { vocab: 20, seq_len, layout, document_mask, eos: Some(EOS) };
    Dataset::from_tokens(tokens.to_vec(), &options).unwrap()
}

fn all(dataset: &Dataset) -> Batch {
    let mut batch = dataset.batch(dataset.rows() as usize);
    dataset.fill(Order::Natural, 0..dataset.rows(), &mut batch).unwrap();
    let counted = dataset.count_targets(Order::Natural, 0..dataset.rows()).unwrap();
    let targets = batch.targets.iter().filter(|&&t| t != N).count();
    assert_eq!((batch.target_tokens, counted), (targets, targets as u64));
    batch
}

#[test]
fn a_thread_of_its_own_may_prepare_batches() {
    fn check<T: Send + Sync>() {}
    check::<Dataset>();
    check::<chtsl::data::Tokenizer>();
}

#[test]
fn packed_windows_overlap_by_one_token() {
    let tokens: Vec<u32> = (0..9).collect();
    let batch = all(&dataset(&tokens, Layout::Packed, 4, false));
    assert_eq!(batch.ids, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(batch.targets, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!((batch.sequences, batch.seq_len, batch.starts), (2, 4, None));
    // The last token of the stream may be a target only: 8 tokens hold one window of 4, not two.
    assert_eq!(dataset(&tokens[..8], Layout::Packed, 4, false).rows(), 1);
}

#[test]
fn packed_windows_cross_shards() {
    let folder = tempfile::tempdir().unwrap();
    let mut next = 0;
    for (i, length) in [3u32, 1, 6, 2].into_iter().enumerate() {
        let tokens: Vec<u32> = (next..next + length).collect();
        next += length;
        let path = folder.path().join(format!("train_{i}.bin"));
        std::fs::write(path, foreign(&tokens, i == 2)).unwrap();
    }
    let options = super::packed(20, 5);
    let dataset = Dataset::open(&[folder.path().to_path_buf()], Split::Train, &options).unwrap();
    let batch = all(&dataset);
    assert_eq!(batch.ids, (0..10).collect::<Vec<u32>>());
    assert_eq!(batch.targets, (1..11).collect::<Vec<u32>>());
}

#[test]
fn doc_pad_rows_are_documents_whichever_end_eos_is_on() {
    // Documents: 1 2 3 | 4 | 5 6 7 8 (longer than a row), with an empty one in between.
    let last = [1, 2, 3, EOS, EOS, 4, EOS, 5, 6, 7, 8, EOS];
    let first = [EOS, 1, 2, 3, EOS, EOS, 4, EOS, 5, 6, 7, 8];
    for tokens in [&last, &first] {
        let batch = all(&dataset(tokens, Layout::DocPad, 4, false));
        assert_eq!(batch.ids, [1, 2, 3, EOS, 4, EOS, 0, 0, 5, 6, 7, 8]);
        assert_eq!(batch.targets, [2, 3, EOS, N, EOS, N, N, N, 6, 7, 8, N]);
        assert_eq!(batch.starts, None);
    }
    let batch = all(&dataset(&last, Layout::DocPad, 6, false));
    assert_eq!(batch.ids[12..], [5, 6, 7, 8, EOS, 0]);
    assert_eq!(batch.targets[12..], [6, 7, 8, EOS, N, N]);
}

#[test]
fn document_starts_follow_the_end_eos_is_on() {
    let last = [1, 2, EOS, 3, 4, EOS, 5, 6, EOS];
    let batch = all(&dataset(&last, Layout::Packed, 4, true));
    assert_eq!(batch.ids, [1, 2, EOS, 3, 4, EOS, 5, 6]);
    assert_eq!(batch.starts.unwrap(), [0, 0, 0, 3, 0, 0, 2, 2]);
    let first = [EOS, 1, 2, EOS, 3, 4, EOS, 5, 6];
    let batch = all(&dataset(&first, Layout::Packed, 4, true));
    assert_eq!(batch.starts.unwrap(), [0, 0, 0, 3, 0, 0, 2, 2]);
}

#[test]
fn buffers_are_reused_for_smaller_batches() {
    let dataset = dataset(&(0..18).collect::<Vec<_>>(), Layout::Packed, 4, false);
    let mut batch = dataset.batch(4);
    let place = batch.ids.as_ptr();
    dataset.fill(Order::Natural, 0..4, &mut batch).unwrap();
    dataset.fill(Order::Natural, 3..4, &mut batch).unwrap();
    assert_eq!((batch.sequences, batch.ids.len(), batch.target_tokens), (1, 4, 4));
    assert_eq!(batch.ids, [12, 13, 14, 15]);
    assert_eq!(batch.ids.as_ptr(), place);
    assert!(dataset.fill(Order::Natural, 4..5, &mut batch).is_err(), "natural order ends");
}

#[test]
fn position_is_one_number_across_epochs() {
    let tokens: Vec<u32> = (0..400).map(|i| if i % 7 == 6 { EOS } else { i % 5 }).collect();
    for layout in [Layout::Packed, Layout::DocPad] {
        let dataset = dataset(&tokens, layout, 5, false);
        let rows = dataset.rows();
        let order = Order::Shuffled { seed: 11 };
        let mut whole = dataset.batch(0);
        dataset.fill(order, 0..3 * rows, &mut whole).unwrap();
        // Restored just before, on and after an epoch boundary, in batches of another size.
        for start in [rows - 1, rows, rows + 1, 2 * rows - 3] {
            let mut part = dataset.batch(4);
            dataset.fill(order, start..start + 4, &mut part).unwrap();
            let span = start as usize * 5..(start as usize + 4) * 5;
            assert_eq!(part.ids, whole.ids[span.clone()]);
            assert_eq!(part.targets, whole.targets[span]);
            let counted = dataset.count_targets(order, start..start + 4).unwrap();
            assert_eq!(counted, part.target_tokens as u64);
        }
        // Each epoch shows every row once.
        for epoch in 0..3 {
            let mut seen: Vec<u64> = (epoch * rows..(epoch + 1) * rows)
                .map(|n| dataset.sample(order, n).unwrap())
                .map(|(e, row)| {
                    assert_eq!(e, epoch);
                    row
                })
                .collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..rows));
        }
    }
}

#[test]
fn unusable_streams_are_errors() {
    let options = DatasetOptions {
        vocab: 20,
        seq_len: 4,
        layout: Layout::DocPad,
        document_mask: false,
        eos: Some(EOS),
    };
    let open =
        |tokens: &[u32], options: DatasetOptions| Dataset::from_tokens(tokens.to_vec(), &options);
    super::data_error(open(&[EOS, EOS], options), &["hold no document"]);
    super::data_error(open(&[], options), &["hold no document"]);
    super::data_error(open(&[1, 2], DatasetOptions { eos: None, ..options }), &["sets documents"]);
    super::data_error(open(&[1, 20], options), &["token 1 has id 20"]);
    let packed = DatasetOptions { layout: Layout::Packed, ..options };
    super::data_error(open(&[1, 2, 3, 4], packed), &["4 tokens are too few"]);
    assert_eq!(
        open(&[1, 2, 3], DatasetOptions { seq_len: 1, ..packed }).err().unwrap().exit_code(),
        2
    );
}
