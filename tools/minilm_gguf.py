"""Write the MiniLM-L6-v2 sentence embedder as a GGUF file.

    minilm_gguf.py MODEL_FOLDER OUT.gguf

Reads config.json, vocab.txt and model.safetensors; weights of matrices are stored as f16, the rest as f32. Names and
keys follow llama.cpp's converter for BERT (the WordPiece vocabulary in its phantom-space form).
"""

import json
import os
import pathlib
import re
import sys

import gguf
import numpy as np
from safetensors.numpy import load_file

folder, out = pathlib.Path(sys.argv[1]), sys.argv[2]
config = json.loads((folder / "config.json").read_text())
words = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")[: config["vocab_size"]]
special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}

writer = gguf.GGUFWriter(out + ".part", "bert")
writer.add_name("all-MiniLM-L6-v2")
writer.add_license("apache-2.0")
writer.add_context_length(config["max_position_embeddings"])
writer.add_embedding_length(config["hidden_size"])
writer.add_block_count(config["num_hidden_layers"])
writer.add_feed_forward_length(config["intermediate_size"])
writer.add_head_count(config["num_attention_heads"])
writer.add_layer_norm_eps(config["layer_norm_eps"])
writer.add_causal_attention(False)
writer.add_pooling_type(gguf.PoolingType.MEAN)
writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
writer.add_token_type_count(config["type_vocab_size"])
writer.add_tokenizer_model("bert")
writer.add_tokenizer_pre("jina-v2-en")
writer.add_token_list([w if w in special else w[2:] if w.startswith("##") else "\u2581" + w for w in words])
writer.add_token_types([gguf.TokenType.CONTROL if w in special else gguf.TokenType.NORMAL for w in words])
writer.add_bos_token_id(words.index("[CLS]"))
writer.add_eos_token_id(words.index("[SEP]"))
writer.add_unk_token_id(words.index("[UNK]"))
writer.add_sep_token_id(words.index("[SEP]"))
writer.add_pad_token_id(words.index("[PAD]"))
writer.add_mask_token_id(words.index("[MASK]"))

NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
for name, array in load_file(folder / "model.safetensors").items():
    if name.startswith("pooler.") or name.endswith("position_ids"):
        continue
    stem, kind = name.rsplit(".", 1)
    layer = re.match(r"encoder\.layer\.(\d+)\.(.*)", stem)
    target = f"blk.{layer[1]}.{NAMES[layer[2]]}" if layer else NAMES[stem]
    half = array.ndim == 2 and kind == "weight" and target not in ("position_embd", "token_types")
    writer.add_tensor(f"{target}.{kind}", array.astype(np.float16 if half else np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
os.replace(out + ".part", out)
