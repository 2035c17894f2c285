"""Tag lists: their sizes and their order are fixed by the published checkpoints."""

from seethrough.data import tags


def test_lists_have_the_published_sizes_and_no_tag_twice():
    sizes = {
        tags.TAGS_V2: 19,
        tags.TAGS_V3: 23,
        tags.TRAINING_TAGS: 24,
        tags.BODY_GROUP: 13,
        tags.HEAD_GROUP: 11,
        tags.HEAD_PARTS: 9,
    }
    for names, size in sizes.items():
        assert len(names) == len(set(names)) == size


def test_groups_part_the_training_tags_and_head_is_the_third_body_frame():
    assert sorted(tags.BODY_GROUP + tags.HEAD_GROUP) == sorted(tags.TRAINING_TAGS)
    assert tags.TAG_GROUPS == (tags.BODY_GROUP, tags.HEAD_GROUP)
    assert tags.BODY_GROUP.index("head") == 2
    assert tags.BODY_GROUP.index("legwear") == 8
    assert tags.HEAD_GROUP.index("face") == 1


def test_head_is_made_of_head_frames_without_what_is_worn():
    worn = {"headwear", "earwear"}
    assert set(tags.HEAD_PARTS) == set(tags.HEAD_GROUP) - worn


def test_masks_are_stored_with_head_last_and_trained_with_head_first():
    assert tags.STORED_MASK_ORDER[-1] == tags.TRAINING_TAGS[0] == "head"
    assert tags.STORED_MASK_ORDER[:-1] == tags.TRAINING_TAGS[1:] == tags.TAGS_V3
