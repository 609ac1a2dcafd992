"""Where nothing may be lost at the edge of what a block, a schedule or a comparison allows."""
from petseg_nb.core.layers import CBAM


def test_a_small_attention_block_has_one_hidden_unit():
    hidden = [CBAM(channels).mlp[0].out_features for channels in (4, 15, 16, 31, 32, 64)]
    assert hidden == [1, 1, 1, 1, 2, 4]
